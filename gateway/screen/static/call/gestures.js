// Mouse, wheel and fingers on a timeline, as what they mean.

const WHEEL_ZOOM = 0.0022;
const LINE_PX = 16;
const MOVED_PX = 4;

export class Gestures {
  /** `on`: `zoom(factor, x)`, `pan(px)`, `tap(x, y)` and `hover(x, y)`, with nulls when nobody points. */
  constructor(element, on) {
    this._element = element;
    this._on = on;
    this._down = new Map();
    this._moved = 0;
    const listen = (type, act, options) => element.addEventListener(type, act, options);
    listen("wheel", (event) => this._wheel(event), { passive: false });
    listen("pointerdown", (event) => this._press(event));
    listen("pointermove", (event) => this._move(event));
    listen("pointerup", (event) => this._release(event, true));
    listen("pointercancel", (event) => this._release(event, false));
    listen("pointerleave", () => on.hover(null, null));
  }

  _at(event) {
    const box = this._element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  /** Up and down zooms, as a pinch on a touchpad does; sideways, or with the shift key, moves. */
  _wheel(event) {
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE_PX : 1;
    const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
    event.preventDefault();
    if (event.shiftKey || Math.abs(dx) > Math.abs(dy)) this._on.pan(dx || dy);
    else this._on.zoom(Math.exp(dy * WHEEL_ZOOM * (event.ctrlKey ? 4 : 1)), this._at(event).x);
  }

  _press(event) {
    if (event.button !== 0) return;
    if (this._down.size === 0) this._moved = 0;
    this._down.set(event.pointerId, this._at(event));
  }

  _move(event) {
    const to = this._at(event);
    const from = this._down.get(event.pointerId);
    if (event.pointerType === "mouse") this._on.hover(to.x, to.y);
    if (!from) return;
    this._moved += Math.abs(to.x - from.x);
    if (this._moved > MOVED_PX && !this._element.hasPointerCapture(event.pointerId)) this._element.setPointerCapture(event.pointerId);
    const other = [...this._down].find(([id]) => id !== event.pointerId)?.[1];
    if (other) this._pinch(from, to, other);
    else if (this._moved > MOVED_PX) this._on.pan(from.x - to.x);
    this._down.set(event.pointerId, to);
  }

  _pinch(from, to, other) {
    const [before, after] = [Math.abs(from.x - other.x), Math.abs(to.x - other.x)];
    this._moved = Infinity;
    if (before > 8 && after > 8) this._on.zoom(before / after, (to.x + other.x) / 2);
  }

  _release(event, tapped) {
    if (this._down.delete(event.pointerId) && tapped && this._moved <= MOVED_PX) {
      const { x, y } = this._at(event);
      this._on.tap(x, y);
    }
  }
}
