// The sky's own gradient: its options, what the fit saw drawn over the picture, and the frame without it.
import uPlot from 'uplot';

import { get, post, passing, Refusal, type Options, type Point, type PointSet, type Sky, type State } from './api';
import { Controls, more } from './controls';
import { complain, duration, h, inPageWords, nameBeside, settled } from './dom';
import { CommandBox, JobBar } from './job';
import { PointEditor } from './points';
import { axes, plotPadding, plotWidth } from './stars';
import { remember, sameOptions, ui } from './store';
import type { Viewer } from './viewer';

export class SkyPanel {
  readonly element = h('section', { id: 'panel-background', role: 'tabpanel', 'aria-labelledby': 'tab-background' });
  private controls = new Controls('background', 'sky-', () => ui.sky, () => this.changed());
  private rows = h('div', { class: 'controls' });
  private status = h('p', { class: 'status', role: 'status', id: 'sky-status' });
  private notes = h('div', { class: 'notes' });
  private details = h('div', { class: 'details' });
  private job = new JobBar('sky-', () => 'Apply to whole frame', () => !!this.state?.frame && !this.state.frame.loading, () => void this.run(), () => this.outcome());
  private command = new CommandBox('sky-', () => this.state?.frame && {
    command: 'background', options: ui.depth === 'as-input' ? ui.sky : { ...ui.sky, depth: ui.depth }, name: this.outputName() },
    () => this.save('points'));
  private editor: PointEditor;
  private edit = h('div', { class: 'line', id: 'sky-points', hidden: true });
  private state: State | null = null;
  private sky: Sky | null = null;
  private mask: HTMLCanvasElement | null = null;
  private asked = '';
  private shown = false;
  private plot: uPlot | null = null;
  private ask = settled(250, () => void this.renew());

  constructor(private viewer: Viewer, private save: (what: 'model' | 'points') => void) {
    viewer.addPainter((canvas, place, scale) => this.draw(canvas, place, scale));
    this.editor = new PointEditor(viewer, (points) => this.put(points), () => this.tellPoint());
    new ResizeObserver(() => this.plot?.setSize({ width: plotWidth(this.element), height: 130 })).observe(this.element);
  }

  async build(): Promise<void> {
    await this.controls.load();
    const live = h('input', { type: 'checkbox', id: 'sky-live', change: () => {
      ui.skyLive = live.checked;
      remember();
      this.asked = '';
      if (ui.skyLive) this.ask();
      else this.forget();
    } });
    live.checked = ui.skyLive;
    const reset = h('button', { type: 'button', class: 'plain', click: () => {
      ui.sky = {};
      this.fill();
      this.changed();
    } }, 'Defaults');
    const over = (key: 'points' | 'mask' | 'model', name: string, hint: string) => {
      const button = h('button', { type: 'button', id: `sky-show-${key}`, 'aria-pressed': String(ui[key]), title: hint, click: () => {
        ui[key] = !ui[key];
        button.setAttribute('aria-pressed', String(ui[key]));
        remember();
        this.showPoints();
        void this.redraw();
      } }, name);
      return button;
    };
    this.fill();
    this.element.append(
      h('div', { class: 'line' }, h('label', { class: 'switch' }, live, h('span', {}, 'Live preview')), h('span', { class: 'space' }), reset),
      this.status, this.notes,
      h('div', { class: 'chips', role: 'group', 'aria-label': 'Over the picture' },
        over('points', 'Points', 'Control points of the spline'), over('mask', 'Mask', 'What the fit leaves out'),
        over('model', 'Model', 'The sky itself, right of the border')),
      this.edit, this.rows, this.job.element, this.details, this.command.element);
    this.job.show(this.state);
  }

  private fill(): void {
    const c = this.controls;
    const folder = () => this.state?.frame?.name.split('/').slice(0, -1).join('/') ?? '';
    const seldom = ['downscale', 'downscale-with', 'stretch-quantile', 'mask-below', 'mask-above', 'alpha', 'learning-rate',
      'max-iterations', 'init', 'start-values', 'validate', 'starts', 'seed', 'order'];
    this.rows.replaceChildren(
      c.slider('control-points', { maximum: 144 }), c.slider('complexity', { maximum: 5, step: 0.05 }), c.choice('mode'),
      c.toggle('auto-mask'), c.file('mask', folder, () => this.state?.frame?.name ?? null),
      c.toggle('link-channels'), c.toggle('neutral'), c.toggle('dither'),
      more(c, seldom, c.select('order', ['2', '3'], null), c.slider('downscale', { maximum: 32 }), c.choice('downscale-with'),
        c.slider('stretch-quantile'), c.slider('mask-below', { minimum: 0, step: 0.001 }), c.slider('mask-above', { maximum: 1 }),
        c.slider('alpha', { maximum: 20, step: 0.5 }), c.number('learning-rate'), c.number('max-iterations'), c.choice('init'),
        c.choice('start-values'), c.toggle('validate'), c.slider('starts', { maximum: 10 }), c.number('seed')));
    this.letLayOut();
    this.command.renew();
  }

  private changed(): void {
    remember();
    this.command.renew();
    this.ask();
    this.job.show(this.state);
  }

  // ---- preview ----

  show(shown: boolean): void {
    this.shown = shown;
    if (shown) this.ask();
    this.showPoints();
    this.viewer.paint();
  }

  /// Whether this panel has the preview, or another one.
  work(on: boolean): void {
    if (on) {
      void this.redraw();
      this.ask();
    } else {
      this.viewer.hide('preview');
    }
  }

  /// The frame is in its place.
  look(): void { this.ask(); }

  private forget(): void {
    this.sky = null;
    this.mask = null;
    this.tell('');
    this.notes.replaceChildren();
    if (ui.work === 'background') this.viewer.hide('preview');
    this.viewer.paint();
    this.showPoints();
    this.render();
  }

  private tell(text: string, failed = false): void {
    this.status.textContent = text;
    this.status.classList.toggle('failed', failed);
  }

  private async renew(): Promise<void> {
    const frame = this.state?.frame;
    if (!frame || frame.loading || !ui.skyLive || !this.shown || ['run', 'combine'].includes(this.state?.job?.kind ?? '')) return;
    const key = frame.id + JSON.stringify(ui.sky);
    if (key === this.asked) return;
    this.asked = key;
    this.element.classList.add('rendering');
    if (!this.sky) this.tell('fitting the sky…');
    try {
      await post('/api/fit', { options: ui.sky });
      if (this.asked !== key) return;
      await this.load();
    } catch (error) {
      if (error instanceof Refusal && error.interrupted) return;
      // what cannot be done is not asked for again until something changes
      if (this.asked === key && passing(error)) this.asked = '';
      this.tell(error instanceof Error ? inPageWords(error.message) : '', true);
    } finally {
      if (this.asked === key || this.asked === '') this.element.classList.remove('rendering');
    }
  }

  private async load(): Promise<void> {
    const frame = this.state?.frame?.id, sky = await get<Sky>('/api/sky');
    if (frame !== this.state?.frame?.id) return;
    this.sky = sky;
    this.mask = null;
    const times = sky.model_range.map((range, i) => range / (sky.noise[i] ?? 1));
    const most = Math.max(...times);
    this.tell(`${most < 0.05 ? 'no gradient' : `gradient of ${most.toFixed(1)} × noise`} · ${(100 * sky.masked_share).toFixed(0)} % masked`);
    this.notes.replaceChildren(...sky.notes.map((note) => h('p', {}, inPageWords(note))));
    this.render();
    this.showPoints();
    await this.redraw();
    const picture = new Image();
    picture.src = `/api/mask.png?layer=${sky.id}`;
    await picture.decode();
    if (this.sky !== sky) return;
    this.mask = veil(picture);
    this.viewer.paint();
    this.element.dataset['sky'] = sky.id;
  }

  /// After a change of the stretch, too.
  async redraw(): Promise<void> {
    this.viewer.paint();
    const frame = this.state?.frame, sky = this.sky;
    if (!frame || !sky || ui.work !== 'background') return;
    await this.viewer.show('preview', ui.model ? `model-${sky.id}` : sky.id,
      { x: 0, y: 0, width: frame.width, height: frame.height }, frame.levels, ui.look, true, 1);
  }

  after(x: number, y: number): { layer: string; x: number; y: number } | null {
    const layer = this.sky?.id ?? (this.state?.result?.command === 'background' ? this.state.result.id : null);
    return layer ? { layer, x, y } : null;
  }

  private draw(canvas: CanvasRenderingContext2D, place: (x: number, y: number) => [number, number], scale: number): void {
    const sky = this.sky;
    if (!this.shown || !sky) return;
    if (ui.mask && this.mask) {
      const [x, y, width, height] = sky.mask_region, [left, top] = place(x, y);
      canvas.imageSmoothingEnabled = scale < 0.2;
      canvas.drawImage(this.mask, left, top, width * scale, height * scale);
    }
  }

  // ---- control points by hand ----

  private get byHand(): boolean { return 'points' in ui.sky; }

  private showPoints(): void {
    if (this.editor.dragging) return;
    this.editor.show(this.sky?.control_points.points ?? [], this.shown && ui.points);
    this.tellPoint();
  }

  private put(points: Point[]): void {
    // what the sky is beyond its spline stays, but around points that are no longer there
    const of = this.sky?.control_points, correction = of?.correction;
    const place = ({ x, y }: Point) => `${x} ${y}`, kept = new Set(points.map(place));
    const removed = of?.points.filter((point) => !kept.has(place(point))).map(({ x, y }) => ({ x, y })) ?? [];
    ui.sky['points'] = correction ? { points, removed, correction } : { points };
    ui.pointsOf = this.state?.frame?.name ?? '';
    this.letLayOut();
    this.tellPoint();
    this.changed();
  }

  /// What the line about the chosen point says and offers.
  private tellPoint(): void {
    this.edit.hidden = !this.sky || !this.shown || !ui.points;
    if (this.edit.hidden) return;
    const button = (id: string, name: string, title: string, click: () => void, off = false) =>
      h('button', { type: 'button', class: 'plain', id, title, disabled: off, click }, name);
    const focused = document.activeElement?.id ?? '';
    this.edit.replaceChildren(
      h('span', { class: 'muted', id: 'sky-point' }, this.editor.words), h('span', { class: 'space' }),
      button('sky-point-add', 'Add', 'In the middle of the view; a double click on the picture does it, too', () => this.editor.add()),
      button('sky-point-remove', 'Remove', 'The chosen point', () => this.editor.remove(), !this.editor.removable),
      button('sky-points-reset', 'Reset', 'Lay the points out again', () => this.reset(), !this.byHand));
    if (focused.startsWith('sky-point')) document.getElementById(focused)?.focus();
  }

  private reset(): void {
    delete ui.sky['points'];
    this.letLayOut();
    this.tellPoint();
    this.changed();
  }

  /// Options of a fit do nothing where the points are the model.
  private letLayOut(): void {
    for (const key of ['control-points', 'complexity', 'alpha', 'learning-rate', 'max-iterations', 'init', 'start-values', 'validate', 'starts']) {
      const row = this.rows.querySelector(`[data-option="${key}"]`);
      row?.classList.toggle('off', this.byHand);
      row?.querySelectorAll('input, select').forEach((input) => { (input as HTMLInputElement).disabled = this.byHand; });
    }
  }

  private render(): void {
    this.plot?.destroy();
    this.plot = null;
    const sky = this.sky;
    if (!sky) return this.details.replaceChildren();
    const plot = h('div', { class: 'plot low', id: 'sky-loss', role: 'img', 'aria-label': `Loss over ${sky.iterations} iterations, in the end ${sky.loss.toFixed(4)}` });
    this.details.replaceChildren(
      h('h3', {}, sky.curve.length > 1 ? `Loss · ${sky.iterations} iterations${sky.start_kept ? ', the start was kept' : ''}` : this.byHand ? 'The control points are the model' : 'Nothing to optimise: the robust start is the model'),
      ...(sky.curve.length > 1 ? [plot] : []),
      h('div', { class: 'line' },
        h('button', { type: 'button', class: 'plain', id: 'sky-save-points', click: () => this.save('points') }, 'Save points…'), h('span', { class: 'space' }),
        h('button', { type: 'button', class: 'plain', id: 'sky-save-model', click: () => this.save('model') }, 'Save model…')));
    if (sky.curve.length < 2) return;
    this.plot = new uPlot({
      width: plotWidth(this.element), height: 130, padding: plotPadding, legend: { show: false }, cursor: { show: false },
      scales: { x: { time: false } }, axes: axes('iteration', (v) => v.toFixed(2)),
      series: [{}, { stroke: '#d0d0d0', width: 1.5, points: { show: false } }],
    }, [sky.curve.map((_, i) => i + 1), sky.curve], plot);
  }

  // ---- the whole frame ----

  update(state: State): void {
    const before = this.state;
    this.state = state;
    if (before?.frame?.id !== state.frame?.id) {
      this.asked = '';
      // points put by hand belong to the frame that they were put on
      if (state.frame && state.frame.name !== ui.pointsOf) delete ui.sky['points'];
      this.letLayOut();
      this.forget();
      this.command.renew();
      if (state.frame) this.ask();
    }
    const job = state.job;
    if (job?.kind === 'fit' && !this.sky) this.tell(`${job.stage || 'fitting the sky'} ${(100 * job.fraction).toFixed(0)} %`);
    if (before?.job && !job) this.ask();
    this.job.show(state);
  }

  private outcome(): HTMLElement | null {
    const result = this.state?.result;
    if (result?.command !== 'background') return null;
    const same = sameOptions(result.options, withoutCorrection(ui.sky));
    return h('div', { class: 'line' },
      h('span', { class: 'muted', id: 'sky-result' }, `${same ? 'Applied' : 'Applied with other settings'} · ${duration(result.seconds)}`),
      h('span', { class: 'space' }),
      h('button', { type: 'button', class: 'plain', id: 'sky-discard', click: () => void post('/api/discard').catch(complain) }, 'Discard'));
  }

  private async run(): Promise<void> {
    this.asked = '';
    try {
      await post('/api/run', { command: 'background', options: ui.sky });
    } catch (error) {
      complain(error);
    }
  }

  outputName(): string {
    return this.state?.frame ? nameBeside(this.state.frame.name, 'flat', ui.flatName) : '';
  }

  spelled(): void { this.command.renew(); }
}

/// As the state has them: it is told often.
function withoutCorrection(options: Options): Options {
  if (!options['points']) return options;
  const { correction: _, ...points } = options['points'] as PointSet;
  return { ...options, points };
}

/// The mask as something to lay over the picture: what is left out turns red.
function veil(mask: HTMLImageElement): HTMLCanvasElement {
  const canvas = h('canvas', { width: mask.width, height: mask.height });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (!context) return canvas;
  context.drawImage(mask, 0, 0);
  const pixels = context.getImageData(0, 0, mask.width, mask.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const out = 255 - (pixels.data[i] ?? 255);
    pixels.data.set([214, 92, 74, Math.round(0.42 * out)], i);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}
