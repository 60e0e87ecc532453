// Adds EditKit's style sheet to the page. The widgets register themselves: mask_painter.js, compare.js.

const sheet = document.createElement("link");
sheet.rel = "stylesheet";
sheet.href = new URL("./editkit.css", import.meta.url).href;
document.head.append(sheet);
