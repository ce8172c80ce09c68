// The controls of `limpid deconvolve`, made from its own schema; live preview and the whole frame.
import { get, post, passing, Refusal, type PreviewAnswer, type State } from './api';
import { Controls, more } from './controls';
import { byId, complain, duration, h, inPageWords, nameBeside, say, settled } from './dom';
import { CommandBox, JobBar } from './job';
import { remember, sameOptions, ui } from './store';
import type { Region, Viewer } from './viewer';

const sliders = ['sharpen-stars', 'sharpen-nonstellar', 'adjust-halos'];
const switches = ['correct-only', 'correct-first', 'nonstellar-then-stellar', 'luminance-only', 'no-stars'];
const choices = ['device', 'precision'];
const previewLimit = 1024;
/// Where the exact preview takes no longer it is there within a second, and a rough one would only hold it up.
const quickSeconds = 0.9;

export class SharpenPanel {
  readonly element = h('section', { id: 'panel-sharpen', role: 'tabpanel', 'aria-labelledby': 'tab-sharpen' });
  private controls = new Controls('deconvolve', '', () => ui.options, () => this.changed());
  private rows = h('div', { class: 'controls' });
  private mosaic = h('p', { class: 'notes', id: 'mosaic', hidden: true },
    'Every other pixel is brighter, as in the raw mosaic of a colour camera. If it is one, debayer it first.');
  private status = h('p', { class: 'status', id: 'sharpen-status', role: 'status' });
  private job = new JobBar('', () => 'Apply to whole frame', () => !!this.state?.frame && !this.state.frame.loading && !this.impossible, () => void this.run(), () => this.outcome());
  private command = new CommandBox('', () => this.state?.frame && {
    options: ui.depth === 'as-input' ? ui.options : { ...ui.options, depth: ui.depth }, name: this.outputName() });
  private state: State | null = null;
  private preview: { layer: string; levels: number; region: Region } | null = null;
  private asked = '';
  private moved = false;
  private unknown = true;  // the stars of the frame are
  private exactSeconds = Infinity;  // that the next exact preview is expected to take
  private retries = 0;
  private impossible = false;  // what the options want of this frame: the preview has said why
  private ask = settled(50, () => void this.renew());

  constructor(private viewer: Viewer) {
    viewer.addPainter((canvas, place, scale) => {
      if (!this.preview || !ui.live || ui.work !== 'sharpen') return;
      const { x, y, width, height } = this.preview.region;
      const [left, top] = place(x, y);
      const stage = byId('viewer');
      // only where there is more picture around it
      if (width * scale > stage.clientWidth - 4 && height * scale > stage.clientHeight - 4) return;
      canvas.strokeStyle = 'rgba(255,255,255,0.35)';
      canvas.strokeRect(Math.round(left) + 0.5, Math.round(top) + 0.5, Math.round(width * scale), Math.round(height * scale));
    });
  }

  /// Where the sharper pixels of a place are.
  after(x: number, y: number): { layer: string; x: number; y: number } | null {
    const p = this.preview;
    if (p && x >= p.region.x && y >= p.region.y && x < p.region.x + p.region.width && y < p.region.y + p.region.height)
      return { layer: p.layer, x: x - p.region.x, y: y - p.region.y };
    const result = this.state?.result;
    return result?.command === 'deconvolve' ? { layer: result.id, x, y } : null;
  }

  async build(): Promise<void> {
    const [models] = await Promise.all([get<{ name: string }[]>('/api/models'), this.controls.load()]);
    const names = models.map((model) => model.name);
    const live = h('input', { type: 'checkbox', id: 'live', change: (event: Event) => {
      ui.live = (event.target as HTMLInputElement).checked;
      remember();
      if (!ui.live) this.dropPreview();
      this.asked = '';
      this.ask();
    } });
    live.checked = ui.live;
    const reset = h('button', { type: 'button', class: 'plain', click: () => {
      ui.options = {};
      this.fill(names);
      this.changed();
    } }, 'Defaults');
    this.fill(names);
    this.element.append(
      h('div', { class: 'line' }, h('label', { class: 'switch' }, live, h('span', {}, 'Live preview')), h('span', { class: 'space' }), reset),
      this.mosaic, this.status, this.rows, this.job.element, this.command.element);
    this.job.show(this.state);
  }

  // ---- controls ----

  private changed(): void {
    this.moved = true;
    this.mayBePossible();
    remember();
    this.command.renew();
    this.ask();
    this.job.show(this.state);
  }

  private fill(models: string[]): void {
    const c = this.controls, choice = (key: string) => c.select(key, c.parameters.get(key)?.choices ?? ['auto', 'cpu', 'cuda'], null);
    const folder = () => this.state?.frame?.name.split('/').slice(0, -1).join('/') ?? '';
    this.rows.replaceChildren(
      ...sliders.map((key) => c.slider(key)), this.psf(), ...switches.map((key) => c.toggle(key)),
      more(c, ['mask', 'ai', 'tile', 'overlap', ...choices],
        c.file('mask', folder, () => this.state?.frame?.name ?? null), c.select('ai', models, 'newest', 'AI'),
        c.slider('tile', { maximum: 2048, step: 64, unit: 'px' }), c.slider('overlap', { step: 0.05 }), ...choices.map(choice)));
    this.command.renew();
  }

  private psf(): HTMLElement {
    const c = this.controls;
    const auto = h('input', { type: 'checkbox', id: 'psf-auto' });
    const [head, range] = c.sliderParts('psf', { minimum: 0.5, maximum: 8, step: 0.1, unit: 'px' }, () => Number(c.value('psf')) || 3,
      (value) => { if (!auto.checked) c.set('psf', value); });
    const number = head.querySelector('input') as HTMLInputElement;
    const apply = () => {
      range.disabled = number.disabled = auto.checked;
      head.classList.toggle('off', auto.checked);
    };
    auto.checked = c.value('psf') === 'auto';
    auto.addEventListener('change', () => { apply(); c.set('psf', auto.checked ? 'auto' : Number(range.value)); });
    apply();
    head.insertBefore(h('label', { class: 'check' }, auto, 'auto'), head.lastElementChild);
    return c.row('psf', head, range);
  }

  // ---- live preview ----

  /// The view moved, or something else than the options changed.
  look(): void { this.ask(); }

  /// Whether this panel has the preview, or another one.
  work(on: boolean): void {
    if (on) void this.redraw();
    else this.viewer.hide('preview');
    this.asked = '';
    if (on) this.ask();
  }

  private dropPreview(): void {
    this.preview = null;
    this.viewer.hide('preview');
    this.tell('');
  }

  private tell(text: string, failed = false): void {
    this.status.textContent = text;
    this.status.classList.toggle('failed', failed);
  }

  private allow(possible: boolean): void {
    if (this.impossible === !possible) return;
    this.impossible = !possible;
    this.job.show(this.state);
  }

  /// To be asked about anew, also where the options are soon what they were.
  private mayBePossible(): void {
    if (this.impossible) this.asked = '';
    this.impossible = false;
  }

  private sameAsResult(): boolean {
    const result = this.state?.result;
    return result?.command === 'deconvolve' && sameOptions(result.options, ui.options);
  }

  private async renew(): Promise<void> {
    const frame = this.state?.frame;
    if (!frame || frame.loading || !this.viewer.frame || ['run', 'combine'].includes(this.state?.job?.kind ?? '')) return;
    if (!ui.live || ui.work !== 'sharpen') return;
    if (this.sameAsResult()) {
      if (this.preview) this.dropPreview();
      this.asked = '';
      return;
    }
    const region = this.viewer.visible(previewLimit);
    if (!region) return;
    const request = { options: ui.options, region: [region.x, region.y, region.width, region.height] };
    const key = frame.id + JSON.stringify(request);
    if (key === this.asked) return;
    this.asked = key;
    const quick = this.unknown || (this.moved && this.exactSeconds > quickSeconds) ? middle(region) : null;
    this.moved = false;
    this.element.classList.add('rendering');
    try {
      // the hand on the slider sees the middle in a tenth of the time
      if (quick) {
        const rough = await post<PreviewAnswer>('/api/preview', { ...request, region: quick, rough: true }).catch(otherThan(Refusal));
        if (this.asked !== key) return;
        if (rough) {
          this.tell(!rough.rough ? words(rough) : `about ${words(rough)}${this.unknown ? '; measuring the whole frame…' : '…'}`);
          await this.place(rough, key);
        }
      }
      if (!this.preview) this.tell('measuring…');
      const answer = await post<PreviewAnswer>('/api/preview', request);
      // of the first most is for the stars of the frame; without that it is the network's part and half as much again
      this.exactSeconds = this.unknown ? 1.5 * answer.network_seconds : answer.seconds;
      this.unknown = false;
      this.retries = 0;
      if (this.asked !== key) return;
      this.allow(true);
      this.tell(words(answer));
      await this.place(answer, key);
      this.element.dataset['preview'] = answer.layer;
      for (const note of answer.notes) say(note);
      this.viewer.onMove();
    } catch (error) {
      if (error instanceof Refusal && error.interrupted) {
        // by one of before that came later; not for ever, since another page may ask, too
        if (this.asked === key && this.retries++ < 2) {
          this.asked = '';
          this.ask();
        }
        return;
      }
      // what cannot be done is not asked for again until something changes
      if (this.asked === key && passing(error)) this.asked = '';
      this.tell(error instanceof Error ? inPageWords(error.message) : '', true);
      if (this.asked === key && error instanceof Refusal && error.undoable) this.allow(false);
    } finally {
      if (this.asked === key || this.asked === '') this.element.classList.remove('rendering');
    }
  }

  private async place(answer: PreviewAnswer, key: string): Promise<void> {
    if (this.asked !== key) return;
    const [x, y, width, height] = answer.region;
    this.preview = { layer: answer.layer, levels: answer.levels, region: { x, y, width, height } };
    await this.redraw();
  }

  /// After a change of the stretch, too.
  async redraw(): Promise<void> {
    if (this.preview && ui.work === 'sharpen') await this.viewer.show('preview', this.preview.layer, this.preview.region, this.preview.levels, ui.look, true, 1);
  }

  // ---- the whole frame ----

  update(state: State): void {
    const before = this.state;
    this.state = state;
    if (before?.frame?.id !== state.frame?.id) {
      this.preview = null;
      this.asked = '';
      this.unknown = true;
      this.impossible = false;
      this.mosaic.hidden = !state.frame?.mosaic;
      this.tell('');
      this.command.renew();
      if (state.frame) this.ask();
    }
    if (state.result && state.result.id !== before?.result?.id && this.sameAsResult()) this.dropPreview();
    if (before?.result && !state.result) this.ask();
    if (before?.job && !state.job) this.ask();
    this.job.show(state);
  }

  private outcome(): HTMLElement | null {
    if (this.impossible) return h('p', { class: 'notes', id: 'why-not' }, 'Not with these settings: the reason stands above them.');
    const result = this.state?.result;
    if (result?.command !== 'deconvolve') return null;
    return h('div', { class: 'line' },
      h('span', { class: 'muted', id: 'result' }, `${this.sameAsResult() ? 'Applied' : 'Applied with other settings'} · ${duration(result.seconds)}`),
      h('span', { class: 'space' }),
      h('button', { type: 'button', class: 'plain', id: 'discard', click: () => void post('/api/discard').catch(complain) }, 'Discard'));
  }

  private async run(): Promise<void> {
    this.asked = '';  // the preview stays until the result takes its place
    try {
      await post('/api/run', { options: ui.options });
    } catch (error) {
      complain(error);
    }
  }

  // ---- the command ----

  outputName(): string {
    return this.state?.frame ? nameBeside(this.state.frame.name, 'sharp', ui.saveName) : '';
  }

  spelled(): void { this.command.renew(); }
}

const words = (answer: PreviewAnswer) => `stars ${answer.fwhm_px.toFixed(2)} → ${answer.fwhm_asked_px.toFixed(2)} px wide`;

/// For what may fail in this way: nothing then.
function otherThan<E>(kind: new (...all: any[]) => E): (error: unknown) => null {
  return (error) => {
    if (error instanceof kind) return null;
    throw error;
  };
}

/// One tile of the network in the middle; nothing when the whole is hardly more.
function middle(region: Region): number[] | null {
  const side = 512;
  if (region.width * region.height < 1.5 * side * side) return null;
  const width = Math.min(side, region.width), height = Math.min(side, region.height);
  // the network's blocks begin at multiples of 8: a part that begins there takes one tile
  const start = (from: number, length: number, own: number) => Math.max(from, (from + ((length - own) >> 1)) & ~7);
  return [start(region.x, region.width, width), start(region.y, region.height, height), width, height];
}
