// Control points of the sky over the picture: to be moved, added and taken away by hand.
import type { Point } from './api';
import { byId, h } from './dom';
import type { Viewer } from './viewer';

const fewest = 4, most = 400;
/// How far beyond the frame they may lie, as a share of it.
const beyond = 0.5;
const help = 'Arrows move it, with Shift further. Page up and page down go to the others. Delete takes it away, Insert adds one.';

export class PointEditor {
  private points: Point[] = [];
  private buttons: HTMLButtonElement[] = [];
  private chosen = 0;
  private shown = false;
  private place: (x: number, y: number) => [number, number] = (x, y) => [x, y];
  private scale = 1;
  dragging = false;

  /// `changed` is told of every new list, `picked` when another point is the chosen one.
  constructor(private viewer: Viewer, private changed: (points: Point[]) => void, private picked: () => void) {
    viewer.addPainter((_, place, scale) => {
      this.place = place;
      this.scale = scale;
      if (this.shown) this.buttons.forEach((_, i) => this.put(i));
    });
    viewer.onDouble = (x, y) => this.shown && this.add(x, y);
    byId('points').append(h('span', { id: 'points-help', hidden: true }, help));
  }

  get count(): number { return this.points.length; }

  /// The chosen one in words.
  get words(): string { return `Point ${this.chosen + 1} of ${this.count}`; }

  get removable(): boolean { return this.count > fewest; }

  show(points: Point[], shown: boolean): void {
    this.shown = shown && points.length > 0;
    byId('points').hidden = !this.shown;
    this.points = points.map((point) => ({ ...point }));
    this.chosen = Math.max(0, Math.min(this.chosen, this.count - 1));
    if (this.shown) this.draw();
  }

  /// In the middle of what is seen, or at a place. False when there is no room for more.
  add(x?: number, y?: number): boolean {
    const box = byId('viewer').getBoundingClientRect();
    const at = x !== undefined && y !== undefined ? { x, y } : this.viewer.placeUnder(box.left + box.width / 2, box.top + box.height / 2);
    if (!at || this.count >= most || !this.holds(at.x, at.y)) return false;
    this.points.push({ x: at.x - 0.5, y: at.y - 0.5 });
    this.chosen = this.count - 1;
    this.draw();
    this.told();
    return true;
  }

  remove(): void {
    if (!this.removable) return;
    const focused = this.buttons[this.chosen] === document.activeElement;
    this.points.splice(this.chosen, 1);
    this.chosen = Math.min(this.chosen, this.count - 1);
    this.draw();
    if (focused) this.buttons[this.chosen]?.focus();
    this.told();
  }

  // ---- buttons ----

  private draw(): void {
    while (this.buttons.length > this.count) this.buttons.pop()?.remove();
    while (this.buttons.length < this.count) {
      const button = h('button', { type: 'button', 'aria-describedby': 'points-help' });
      this.wire(button, this.buttons.length);
      this.buttons.push(button);
      byId('points').append(button);
    }
    this.buttons.forEach((_, i) => this.put(i));
    this.choose(this.chosen, false);
  }

  private put(index: number): void {
    const point = this.points[index], button = this.buttons[index];
    if (!point || !button) return;
    const [x, y] = this.place(point.x + 0.5, point.y + 0.5);
    button.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
  }

  /// One of them is reached by the tab key, the others from there.
  private choose(index: number, focus: boolean): void {
    this.chosen = index;
    this.buttons.forEach((button, i) => {
      button.tabIndex = i === index ? 0 : -1;
      if (i === index) button.setAttribute('aria-current', 'true');
      else button.removeAttribute('aria-current');
    });
    const own = this.buttons[index];
    const point = this.points[index];
    if (point) own?.setAttribute('aria-label', `${this.words} at ${point.x.toFixed(0)}, ${point.y.toFixed(0)}`);
    if (focus) own?.focus();
    this.picked();
  }

  private holds(x: number, y: number): boolean {
    const frame = this.viewer.frame;
    const inside = (at: number, length: number) => at >= -beyond * length && at <= (1 + beyond) * length;
    return !!frame && inside(x, frame.width) && inside(y, frame.height);
  }

  private move(index: number, x: number, y: number): void {
    if (!this.holds(x, y)) return;
    this.points[index] = { x, y };
    this.put(index);
    this.choose(index, false);
  }

  private told(): void { this.changed(this.points.map((point) => ({ ...point }))); }

  private wire(button: HTMLButtonElement, index: number): void {
    let from: { x: number; y: number; point: Point } | null = null, moved = false;
    button.addEventListener('pointerdown', (event) => {
      const point = this.points[index];
      if (event.button !== 0 || !point) return;
      button.setPointerCapture(event.pointerId);
      from = { x: event.clientX, y: event.clientY, point };
      this.dragging = true;
      moved = false;
      this.choose(index, true);
      event.preventDefault();
    });
    button.addEventListener('pointermove', (event) => {
      if (!from || !button.hasPointerCapture(event.pointerId)) return;
      const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
      if (!moved && Math.hypot(dx, dy) < 3) return;
      moved = true;
      button.classList.add('moving');
      this.move(index, from.point.x + dx / this.scale, from.point.y + dy / this.scale);
    });
    const end = (keep: boolean) => () => {
      const start = from;
      from = null;
      this.dragging = false;
      button.classList.remove('moving');
      if (!start || !moved) return;
      if (keep) return this.told();
      this.points[index] = start.point;
      this.put(index);
    };
    button.addEventListener('pointerup', end(true));
    button.addEventListener('pointercancel', end(false));
    button.addEventListener('contextmenu', (event) => {
      event.preventDefault();
      this.choose(index, true);
      this.remove();
    });
    // the wheel is the picture's
    button.addEventListener('wheel', (event) => {
      event.preventDefault();
      this.viewer.osd.canvas.dispatchEvent(new WheelEvent('wheel', event));
    }, { passive: false });
    button.addEventListener('focus', () => { if (this.chosen !== index) this.choose(index, false); });
    button.addEventListener('keydown', (event) => this.key(event, index));
  }

  private key(event: KeyboardEvent, index: number): void {
    const point = this.points[index], step = (event.shiftKey ? 40 : 4) / this.scale;
    const moves: Record<string, [number, number]> = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const others: Record<string, number> = { PageDown: (index + 1) % this.count, PageUp: (index + this.count - 1) % this.count, Home: 0, End: this.count - 1 };
    const move = moves[event.key], other = others[event.key];
    if (move && point) {
      this.move(index, point.x + move[0], point.y + move[1]);
      this.told();
    } else if (other !== undefined) {
      this.choose(other, true);
      const next = this.points[other];
      if (next) this.viewer.reveal(next.x, next.y);
    }
    else if (event.key === 'Delete' || event.key === 'Backspace') this.remove();
    else if (event.key === 'Insert') { if (this.add()) this.buttons[this.chosen]?.focus(); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
