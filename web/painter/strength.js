// A mask in memory: one byte a pixel, 0 hold to 255 full, with strokes and a bounded history.
//
// A stroke remembers the tiles that it touches as they were, and how far the brush has covered each of their pixels.
// The new value is always mixed from the old one by that cover, so that going over a place twice changes nothing.

const TILE = 128;
const HISTORY_BYTES = 64 * 2 ** 20;

export class Strength {
  constructor(width, height) {
    this.past = [];
    this.future = [];
    this.version = 0;
    this.reset(width, height);
  }

  /** Becomes black at this size, without history. */
  reset(width, height) {
    Object.assign(this, { width, height, data: new Uint8Array(width * height), stroke: null });
    this.past.length = this.future.length = 0;
    this.version++;
  }

  get columns() {
    return Math.ceil(this.width / TILE);
  }

  get tileCount() {
    return this.columns * Math.ceil(this.height / TILE);
  }

  /** The pixels [left, top, right, bottom) of a tile. */
  tileBox(index) {
    const left = (index % this.columns) * TILE;
    const top = Math.floor(index / this.columns) * TILE;
    return [left, top, Math.min(left + TILE, this.width), Math.min(top + TILE, this.height)];
  }

  /** A tile's bytes row by row; the number alone where they are all equal, as they are nearly everywhere. */
  copyTile(index) {
    const [left, top, right, bottom] = this.tileBox(index);
    const bytes = new Uint8Array((right - left) * (bottom - top));
    for (let y = top, to = 0; y < bottom; y++, to += right - left) {
      bytes.set(this.data.subarray(y * this.width + left, y * this.width + right), to);
    }
    return uniform(bytes) ? bytes[0] : bytes;
  }

  putTile(index, tile) {
    const [left, top, right, bottom] = this.tileBox(index);
    for (let y = top, from = 0; y < bottom; y++, from += right - left) {
      const row = this.data.subarray(y * this.width + left, y * this.width + right);
      if (typeof tile === "number") row.fill(tile);
      else row.set(tile.subarray(from, from + right - left));
    }
  }

  // --- strokes

  /** Begins a stroke that paints `value`. hardness: 0 soft to 1 hard, the share of the radius covered in full. */
  begin(value, hardness) {
    this.stroke = { value, hardness, before: new Map(), cover: new Map(), changed: false };
  }

  /** Goes from (x, y) with radius r to the next; (0.5, 0.5) is the middle of the first pixel. Returns the box. */
  line(from, to) {
    const reach = Math.max(from.r, to.r) + 1;
    const box = [
      Math.max(0, Math.floor(Math.min(from.x, to.x) - reach)),
      Math.max(0, Math.floor(Math.min(from.y, to.y) - reach)),
      Math.min(this.width, Math.ceil(Math.max(from.x, to.x) + reach)),
      Math.min(this.height, Math.ceil(Math.max(from.y, to.y) + reach)),
    ];
    if (box[0] >= box[2] || box[1] >= box[3]) return null;
    for (let row = Math.floor(box[1] / TILE); row * TILE < box[3]; row++) {
      for (let column = Math.floor(box[0] / TILE); column * TILE < box[2]; column++) {
        this.lineInTile(row * this.columns + column, box, from, to);
      }
    }
    return box;
  }

  lineInTile(index, box, from, to) {
    const { before, cover, value, hardness } = this.stroke;
    const [left, top, right, bottom] = this.tileBox(index);
    if (!before.has(index)) {
      before.set(index, this.copyTile(index));
      cover.set(index, new Uint8Array((right - left) * (bottom - top)));
    }
    const [old, covered, wide] = [before.get(index), cover.get(index), right - left];
    const brush = brushOf(from, to, hardness);
    for (let y = Math.max(top, box[1]); y < Math.min(bottom, box[3]); y++) {
      for (let x = Math.max(left, box[0]); x < Math.min(right, box[2]); x++) {
        const at = (y - top) * wide + x - left;
        if (covered[at] === 255) continue;
        const amount = brush(x + 0.5, y + 0.5);
        if (amount <= covered[at]) continue;
        covered[at] = amount;
        const was = typeof old === "number" ? old : old[at];
        this.data[y * this.width + x] = Math.round(was + ((value - was) * amount) / 255);
        this.stroke.changed = true;
      }
    }
  }

  /** Ends the stroke; true when it changed anything. */
  end() {
    const { before, changed } = this.stroke;
    this.stroke = null;
    if (changed) this.remember(this.record(before));
    return changed;
  }

  // --- the whole mask

  /** Replaces all bytes (a function of the old byte, or bytes of a new size), as one step of the history. */
  replace(next, width = this.width, height = this.height) {
    this.remember(this.snapshot());
    if (typeof next !== "function") return void Object.assign(this, { data: next, width, height });
    const table = Uint8Array.from({ length: 256 }, (_, value) => next(value));
    for (let i = 0; i < this.data.length; i++) this.data[i] = table[this.data[i]];
  }

  /** Puts bytes in without a step of the history: what was loaded. */
  load(bytes, width, height) {
    this.reset(width, height);
    this.data = bytes;
  }

  get empty() {
    return this.data[0] === 0 && uniform(this.data);
  }

  /** The share of pixels above 0. */
  get share() {
    let count = 0;
    for (let i = 0; i < this.data.length; i++) count += this.data[i] > 0;
    return count / this.data.length;
  }

  // --- history

  snapshot() {
    return this.record(new Map(Array.from({ length: this.tileCount }, (_, index) => [index, this.copyTile(index)])));
  }

  record(tiles) {
    let bytes = 0;
    for (const tile of tiles.values()) bytes += typeof tile === "number" ? 16 : tile.length;
    return { tiles, bytes, width: this.width, height: this.height };
  }

  remember(record) {
    this.past.push(record);
    this.future.length = 0;
    this.version++;
    let bytes = this.past.reduce((sum, one) => sum + one.bytes, 0);
    while (bytes > HISTORY_BYTES && this.past.length > 1) bytes -= this.past.shift().bytes;
  }

  undo() {
    return this.travel(this.past, this.future);
  }

  redo() {
    return this.travel(this.future, this.past);
  }

  travel(from, to) {
    if (this.stroke || !from.length) return false;
    const record = from.pop();
    const resized = record.width !== this.width || record.height !== this.height;
    const touched = () => new Map([...record.tiles.keys()].map((index) => [index, this.copyTile(index)]));
    to.push(resized ? this.snapshot() : this.record(touched()));
    if (resized) {
      Object.assign(this, { width: record.width, height: record.height });
      this.data = new Uint8Array(record.width * record.height);
    }
    for (const [index, tile] of record.tiles) this.putTile(index, tile);
    this.version++;
    return true;
  }
}

/** Whether all bytes are equal; a plain loop, as it runs over millions. */
function uniform(bytes) {
  for (let i = 1; i < bytes.length; i++) if (bytes[i] !== bytes[0]) return false;
  return true;
}

/** How far, 0 to 255, a brush moved between two points covers the pixel at (x, y). */
function brushOf(from, to, hardness) {
  const [dx, dy, dr] = [to.x - from.x, to.y - from.y, to.r - from.r];
  const length2 = dx * dx + dy * dy;
  return (x, y) => {
    let along = length2 ? ((x - from.x) * dx + (y - from.y) * dy) / length2 : 0;
    along = Math.min(1, Math.max(0, along));
    const radius = from.r + along * dr;
    const across = x - from.x - along * dx;
    const down = y - from.y - along * dy;
    const distance2 = across * across + down * down;
    if (distance2 >= (radius + 0.5) ** 2) return 0;
    const distance = Math.sqrt(distance2);
    const rim = Math.max(1, radius * (1 - hardness)); // at least a pixel, so that no edge is jagged
    const inside = Math.min(1, Math.max(0, (radius + 0.5 - distance) / rim));
    return Math.round(255 * (rim > 1 ? inside * inside * (3 - 2 * inside) : inside));
  };
}
