/** What the page says about each task, and what it asks for. */

export const TASKS = {
  remove: {
    title: "Remove an object",
    short: "Remove",
    hint: "Paint over what should go. Its shadow is found by itself.",
    verb: "Remove",
    done: "Removed",
    icon: "M5 19 15.500 8.500M18 3l.8 2.200L21 6l-2.200.800L18 9l-.8-2.200L15 6l2.200-.8zM4 8h4M6 6v4M17 15h4M19 13v4",
  },
  outpaint: {
    title: "Extend the picture",
    short: "Extend",
    hint: "Choose a shape; the new parts are painted, the photo stays as it is.",
    verb: "Extend",
    done: "Extended",
    icon: "M8 8h8v8H8zM3 8V4h4M21 8V4h-4M3 16v4h4M21 16v4h-4",
  },
  tone: {
    title: "Correct the tone",
    short: "Tone",
    hint: "Exposure, contrast and colour. Paint a region to correct only that.",
    verb: "Correct",
    done: "Corrected",
    icon: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18M12 8h7.500M12 12h9M12 16h7.500",
  },
  relight: {
    title: "Even out the light",
    short: "Light",
    hint: "Takes shadows away. Paint a region to relight only that.",
    verb: "Relight",
    done: "Relit",
    icon: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M5 19l2-2M17 7l2-2",
  },
  sticker: {
    title: "Make a sticker",
    short: "Sticker",
    hint: "Paint over the subject; it is cut out with a white border.",
    verb: "Cut out",
    done: "Your sticker",
    icon: "M20 12V7a3 3 0 0 0-3-3H7a3 3 0 0 0-3 3v10a3 3 0 0 0 3 3h5zM20 12l-8 8v-5a3 3 0 0 1 3-3z",
  },
};

/** Names of the parts that are timed. */
export const PARTS = {
  shadow: "Shadow finder",
  relight: "Light finder",
  encoder: "Encoder",
  denoiser: "Denoiser",
  decoder: "Decoder",
  rest: "Delivery at full size",
  loading: "Loading networks",
};

/** The radio buttons of the tasks that a bundle has. chosen(name) hears the choice. */
export function showTasks(fieldset, names, chosen) {
  for (const name of names) {
    const { title, short, icon } = TASKS[name];
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "task", value: name });
    const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    drawing.setAttribute("viewBox", "0 0 24 24");
    drawing.setAttribute("aria-hidden", "true");
    path.setAttribute("d", icon);
    drawing.append(path);
    const words = [["long", title], ["short", short]].map(([className, textContent]) =>
      Object.assign(document.createElement("span"), { className, textContent }),
    );
    label.append(input, drawing, ...words);
    input.addEventListener("change", () => chosen(name));
    fieldset.append(label);
  }
  fieldset.querySelector("input").checked = true;
}

/** Fills the table of times, in milliseconds, with what they add up to. */
export function showTimes(table, times, total) {
  const row = (name, value) => {
    const line = document.createElement("tr");
    const head = Object.assign(document.createElement("th"), { textContent: name, scope: "row" });
    const text = value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
    line.append(head, Object.assign(document.createElement("td"), { textContent: text }));
    return line;
  };
  const parts = Object.keys(PARTS).filter((name) => times[name] > 0.5);
  table.replaceChildren(...parts.map((name) => row(PARTS[name], times[name])), row("Together", total));
}
