// The theme's colours for a canvas, and fillings that tell things apart without colour.

const NAMES = [
  "panel", "sunken", "line", "line-strong", "text", "text-2", "text-3", "accent", "final", "provisional", "conflict",
  "agent", "customer", "voice-3", "voice-4", "voice-5", "voice-6", "meter", "meter-hot",
];

/** Name to colour as it is now, and `font`. */
export function palette() {
  const style = getComputedStyle(document.body);
  const colours = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  return { ...colours, font: style.fontFamily };
}

const LINES = {
  hatched: { size: 7, draw: (c, s) => diagonal(c, s) },
  stripes: { size: 5, draw: (c, s) => diagonal(c, s) },
  crossed: {
    size: 7,
    draw: (c, s) => {
      diagonal(c, s);
      c.moveTo(0, 0);
      c.lineTo(s, s);
    },
  },
  dots: { size: 6, draw: (c, s) => c.rect(s / 2, s / 2, 0.6, 0.6) },
  sparse: { size: 10, draw: (c, s) => c.rect(s / 2, s / 2, 0.3, 0.3) },
};

function diagonal(context, size) {
  // Beyond its edges, so that the tiles join.
  for (const shift of [-size, 0, size]) {
    context.moveTo(shift, size);
    context.lineTo(shift + size, 0);
  }
}

/** A filling of `name` ("hatched", "stripes", "crossed", "dots", "sparse") for `context`, sharp at this pixel ratio. */
export function pattern(context, name, colour, ratio) {
  const { size, draw } = LINES[name];
  const tile = document.createElement("canvas");
  tile.width = tile.height = Math.round(size * ratio);
  const on = tile.getContext("2d");
  on.scale(tile.width / size, tile.width / size);
  on.strokeStyle = colour;
  on.lineWidth = 1;
  on.beginPath();
  draw(on, size);
  on.stroke();
  const made = context.createPattern(tile, "repeat");
  made.setTransform(new DOMMatrix().scale(size / tile.width));
  return made;
}
