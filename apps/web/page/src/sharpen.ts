// The controls of `limpid deconvolve`, made from its own schema; live preview and the whole frame.
import { get, post, Refusal, type Listing, type Options, type Parameter, type PreviewAnswer, type State, type Value } from './api';
import { byId, complain, duration, h, say, settled } from './dom';
import { remember, ui } from './store';
import type { Region, Viewer } from './viewer';

const sliders = ['sharpen-stars', 'sharpen-nonstellar', 'adjust-halos'];
const switches = ['correct-only', 'correct-first', 'nonstellar-then-stellar', 'luminance-only', 'no-stars'];
const choices = ['device', 'precision'];
const previewLimit = 1024;

const title = (key: string) => key.charAt(0).toUpperCase() + key.slice(1).replaceAll('-', ' ');

export class SharpenPanel {
  readonly element = h('section', { id: 'panel-sharpen', role: 'tabpanel', 'aria-labelledby': 'tab-sharpen' });
  private parameters = new Map<string, Parameter>();
  private controls = h('div', { class: 'controls' });
  private status = h('p', { class: 'status', role: 'status' });
  private job = h('div', { class: 'job' });
  private command = h('code', { id: 'command', tabindex: 0 });
  private state: State | null = null;
  private preview: { layer: string; region: Region } | null = null;
  private asked = '';
  private moved = false;
  private ask = settled(90, () => void this.renew());
  private spell = settled(150, () => void this.spellCommand());

  constructor(private viewer: Viewer) {
    viewer.addPainter((canvas, place, scale) => {
      if (!this.preview || !ui.live) return;
      const { x, y, width, height } = this.preview.region;
      const [left, top] = place(x, y);
      const stage = byId('viewer');
      // only where there is more picture around it
      if (width * scale > stage.clientWidth - 4 && height * scale > stage.clientHeight - 4) return;
      canvas.strokeStyle = 'rgba(255,255,255,0.35)';
      canvas.strokeRect(Math.round(left) + 0.5, Math.round(top) + 0.5, Math.round(width * scale), Math.round(height * scale));
    });
    viewer.setAfter((x, y) => {
      const p = this.preview;
      if (p && x >= p.region.x && y >= p.region.y && x < p.region.x + p.region.width && y < p.region.y + p.region.height)
        return { layer: p.layer, x: x - p.region.x, y: y - p.region.y };
      const result = this.state?.result;
      return result ? { layer: result.id, x, y } : null;
    });
  }

  async build(): Promise<void> {
    const [schema, models] = await Promise.all([
      get<{ parameters: Parameter[] }>('/api/schema'), get<{ name: string }[]>('/api/models')]);
    for (const parameter of schema.parameters) this.parameters.set(parameter.name.slice(2), parameter);
    for (const key of Object.keys(ui.options)) if (!this.parameters.has(key)) delete ui.options[key];
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
      this.fill(models.map((model) => model.name));
      this.changed();
    } }, 'Defaults');
    this.fill(models.map((model) => model.name));
    this.element.append(
      h('div', { class: 'line' }, h('label', { class: 'switch' }, live, h('span', {}, 'Live preview')), h('span', { class: 'space' }), reset),
      this.status, this.controls, this.job,
      h('details', { class: 'command' }, h('summary', {}, 'As command'), this.command,
        h('button', { type: 'button', id: 'copy', click: () => void this.copy() }, 'Copy as command')));
    this.showJob();
  }

  // ---- controls ----

  private value(key: string): Value {
    return ui.options[key] ?? this.parameters.get(key)?.default ?? null;
  }

  private set(key: string, value: Value): void {
    if (value === this.parameters.get(key)?.default || value === null) delete ui.options[key];
    else ui.options[key] = value;
    this.changed();
  }

  private changed(): void {
    this.moved = true;
    remember();
    this.spell();
    this.ask();
  }

  private row(key: string, ...content: HTMLElement[]): HTMLElement {
    return h('div', { class: 'control', 'data-option': key }, ...content,
      h('p', { class: 'hint', id: `hint-${key}` }, this.parameters.get(key)?.text ?? ''));
  }

  private slider(key: string, minimum: number, maximum: number, step: number, get: () => number,
                 set: (value: number) => void, unit = ''): HTMLElement[] {
    const number = h('input', { type: 'number', min: minimum, max: maximum, step, 'aria-label': title(key), 'aria-describedby': `hint-${key}` });
    const range = h('input', { type: 'range', id: key, min: minimum, max: maximum, step, 'aria-describedby': `hint-${key}` });
    const take = (from: HTMLInputElement, to: HTMLInputElement) => () => {
      const value = Number(from.value);
      if (from.value === '' || !(value >= minimum && value <= maximum)) {
        from.setAttribute('aria-invalid', 'true');
        return;
      }
      from.removeAttribute('aria-invalid');
      to.value = String(value);
      set(value);
    };
    number.value = range.value = String(get());
    range.addEventListener('input', take(range, number));
    number.addEventListener('input', take(number, range));
    return [h('div', { class: 'head' }, h('label', { for: key }, title(key)), h('span', { class: 'value' }, number, unit)), range];
  }

  private fill(models: string[]): void {
    const rows: HTMLElement[] = [];
    for (const key of sliders) {
      const p = this.parameters.get(key);
      if (p) rows.push(this.row(key, ...this.slider(key, p.minimum ?? 0, p.maximum ?? 1, 0.01,
        () => Number(this.value(key)), (value) => this.set(key, value))));
    }
    rows.push(this.psf());
    for (const key of switches) rows.push(this.toggle(key));
    const more = h('details', {}, h('summary', {}, 'More'), this.mask(), this.select('ai', models, 'newest'));
    const tile = this.parameters.get('tile'), overlap = this.parameters.get('overlap');
    if (tile) more.append(this.row('tile', ...this.slider('tile', tile.minimum ?? 256, 2048, 64,
      () => Number(this.value('tile')), (value) => this.set('tile', value), 'px')));
    if (overlap) more.append(this.row('overlap', ...this.slider('overlap', 0, 0.5, 0.05,
      () => Number(this.value('overlap')), (value) => this.set('overlap', value))));
    for (const key of choices)
      more.append(this.select(key, this.parameters.get(key)?.choices ?? ['auto', 'cpu', 'cuda'], null));
    more.open = ['mask', 'ai', 'tile', 'overlap', ...choices].some((key) => key in ui.options);
    this.controls.replaceChildren(...rows, more);
    this.spell();
  }

  private psf(): HTMLElement {
    const auto = h('input', { type: 'checkbox', id: 'psf-auto' });
    const [head, range] = this.slider('psf', 0.5, 8, 0.1, () => Number(this.value('psf')) || 3,
      (value) => { if (!auto.checked) this.set('psf', value); }, 'px') as [HTMLElement, HTMLInputElement];
    const number = head.querySelector('input') as HTMLInputElement;
    const apply = () => {
      range.disabled = number.disabled = auto.checked;
      head.classList.toggle('off', auto.checked);
    };
    auto.checked = this.value('psf') === 'auto';
    auto.addEventListener('change', () => { apply(); this.set('psf', auto.checked ? 'auto' : Number(range.value)); });
    apply();
    (head.firstElementChild as HTMLElement).textContent = 'PSF';
    head.insertBefore(h('label', { class: 'check' }, auto, 'auto'), head.lastElementChild);
    return this.row('psf', head, range);
  }

  private toggle(key: string): HTMLElement {
    const box = h('input', { type: 'checkbox', id: key, 'aria-describedby': `hint-${key}`,
      change: () => this.set(key, box.checked) });
    box.checked = this.value(key) === true;
    return this.row(key, h('label', { class: 'switch' }, box, h('span', {}, title(key))));
  }

  private select(key: string, values: string[], absent: string | null): HTMLElement {
    const menu = h('select', { id: key, 'aria-describedby': `hint-${key}`, change: () => this.set(key, menu.value || null) },
      absent === null ? null : h('option', { value: '' }, absent), ...values.map((value) => h('option', { value }, value)));
    menu.value = String(this.value(key) ?? '');
    return this.row(key, h('div', { class: 'head' }, h('label', { for: key }, key === 'ai' ? 'AI' : title(key)), menu));
  }

  private mask(): HTMLElement {
    const menu = h('select', { id: 'mask', 'aria-describedby': 'hint-mask', change: () => this.set('mask', menu.value || null) },
      h('option', { value: '' }, 'none'));
    const chosen = String(ui.options['mask'] ?? '');
    if (chosen) menu.append(h('option', { value: chosen }, chosen));
    menu.value = chosen;
    const load = async () => {
      const folder = this.state?.frame?.name.split('/').slice(0, -1).join('/') ?? '';
      const listing = await get<Listing>('/api/files', { folder }).catch(() => null);
      const known = new Set([...menu.options].map((option) => option.value));
      for (const file of listing?.files ?? []) {
        const name = folder ? `${folder}/${file.name}` : file.name;
        if (!known.has(name) && name !== this.state?.frame?.name) menu.append(h('option', { value: name }, file.name));
      }
    };
    menu.addEventListener('focus', () => void load());
    return this.row('mask', h('div', { class: 'head' }, h('label', { for: 'mask' }, 'Mask'), menu));
  }

  // ---- live preview ----

  /// The view moved, or something else than the options changed.
  look(): void { this.ask(); }

  private dropPreview(): void {
    this.preview = null;
    this.viewer.hide('preview');
    this.status.textContent = '';
  }

  private sameAsResult(): boolean {
    const result = this.state?.result;
    return result != null && JSON.stringify(sorted(result.options)) === JSON.stringify(sorted(ui.options));
  }

  private async renew(): Promise<void> {
    const frame = this.state?.frame;
    if (!frame || !this.viewer.frame || this.state?.job?.kind === 'run') return;
    if (!ui.live) return;
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
    const quick = this.moved ? middle(region) : null;
    this.moved = false;
    this.status.textContent = this.preview ? this.status.textContent : 'measuring…';
    this.element.classList.add('rendering');
    try {
      // the hand on the slider sees the middle in a tenth of the time
      if (quick) {
        await this.place(await post<PreviewAnswer>('/api/preview', { ...request, region: quick }), key);
        if (this.asked !== key) return;
      }
      const answer = await post<PreviewAnswer>('/api/preview', request);
      if (this.asked !== key) return;
      this.status.textContent = `stars ${answer.fwhm_px.toFixed(2)} → ${answer.fwhm_asked_px.toFixed(2)} px wide`;
      await this.place(answer, key);
      this.element.dataset['preview'] = answer.layer;
      for (const note of answer.notes) say(note);
      this.viewer.onMove();
    } catch (error) {
      if (error instanceof Refusal && error.interrupted) return;
      if (this.asked === key) this.asked = '';
      this.status.textContent = error instanceof Error ? error.message : '';
    } finally {
      if (this.asked === key || this.asked === '') this.element.classList.remove('rendering');
    }
  }

  private async place(answer: PreviewAnswer, key: string): Promise<void> {
    if (this.asked !== key) return;
    const [x, y, width, height] = answer.region;
    this.preview = { layer: answer.layer, region: { x, y, width, height } };
    await this.redraw();
  }

  /// After a change of the stretch, too.
  async redraw(): Promise<void> {
    if (this.preview) await this.viewer.show('preview', this.preview.layer, this.preview.region, 1, ui.look, true, 1);
  }

  // ---- the whole frame ----

  update(state: State): void {
    const before = this.state;
    this.state = state;
    if (before?.frame?.id !== state.frame?.id) {
      this.preview = null;
      this.asked = '';
      this.status.textContent = '';
      this.spell();
      if (state.frame) this.ask();
    }
    if (state.result && state.result.id !== before?.result?.id && this.sameAsResult()) this.dropPreview();
    if (before?.result && !state.result) this.ask();
    if (before?.job?.kind === 'run' && state.job?.kind !== 'run') this.ask();
    this.showJob();
  }

  private showJob(): void {
    const state = this.state, job = state?.job?.kind === 'run' ? state.job : null;
    if (job) {
      const known = this.job.querySelector('progress');
      const words = `${job.stage}${job.seconds_left ? `, ${duration(job.seconds_left)} left` : ''}`;
      if (known) {
        known.value = job.fraction;
        (this.job.querySelector('.muted') as HTMLElement).textContent = words;
        return;
      }
      this.job.replaceChildren(
        h('progress', { id: 'progress', max: 1, value: job.fraction, 'aria-label': 'Progress' }),
        h('div', { class: 'line' }, h('span', { class: 'muted' }, words), h('span', { class: 'space' }),
          h('button', { type: 'button', id: 'cancel', click: () => void post('/api/cancel').catch(complain) }, 'Cancel')));
      return;
    }
    const apply = h('button', { type: 'button', id: 'apply', class: 'strong wide', disabled: !state?.frame, click: () => void this.run() }, 'Apply to whole frame');
    const result = state?.result;
    this.job.replaceChildren(apply, result ? h('div', { class: 'line' },
      h('span', { class: 'muted', id: 'result' }, `${this.sameAsResult() ? 'Applied' : 'Applied with other settings'} · ${duration(result.seconds)}`),
      h('span', { class: 'space' }),
      h('button', { type: 'button', class: 'plain', id: 'discard', click: () => void post('/api/discard').catch(complain) }, 'Discard')) : '');
  }

  private async run(): Promise<void> {
    this.dropPreview();
    this.asked = '';
    try {
      await post('/api/run', { options: ui.options });
    } catch (error) {
      complain(error);
    }
  }

  // ---- the command ----

  outputName(): string {
    const frame = this.state?.frame;
    if (!frame) return '';
    const stem = frame.name.replace(/(\.[a-z0-9]{1,5}){1,2}$/i, '');
    const ending = /\.xisf$/i.test(frame.name) ? '.xisf' : /\.tiff?$/i.test(frame.name) ? '.tif' : '.fits';
    return ui.saveName && ui.saveName.startsWith(stem) ? ui.saveName : `${stem}-sharp${ending}`;
  }

  private async spellCommand(): Promise<void> {
    if (!this.state?.frame) {
      this.command.textContent = '';
      return;
    }
    const options: Options = { ...ui.options };
    if (ui.depth !== 'as-input') options['depth'] = ui.depth;
    try {
      this.command.textContent =
        (await post<{ command: string }>('/api/command', { options, name: this.outputName() })).command;
    } catch (error) {
      this.command.textContent = error instanceof Error ? error.message : '';
    }
  }

  private async copy(): Promise<void> {
    await this.spellCommand();
    const text = this.command.textContent ?? '';
    try {
      await navigator.clipboard.writeText(text);
      say('Copied');
    } catch {
      getSelection()?.selectAllChildren(this.command);  // no clipboard without encryption: Ctrl-C does it
      say('Selected; copy it with Ctrl-C');
    }
  }

  spelled(): void { this.spell(); }
}

/// One tile of the network in the middle; nothing when the whole is hardly more.
function middle(region: Region): number[] | null {
  const side = 512;
  if (region.width * region.height < 1.5 * side * side) return null;
  const width = Math.min(side, region.width), height = Math.min(side, region.height);
  return [region.x + ((region.width - width) >> 1), region.y + ((region.height - height) >> 1), width, height];
}

function sorted(options: Options): [string, Value][] {
  return Object.entries(options).sort(([a], [b]) => (a < b ? -1 : 1));
}
