// Many frames of the folder into one: which, how, how it converges, and which were left out.
import uPlot from 'uplot';

import { get, post, type Combination, type Listing, type State } from './api';
import { Controls, more } from './controls';
import { bytes, complain, h } from './dom';
import { CommandBox, JobBar } from './job';
import { axes, plotPadding, plotWidth } from './stars';
import { remember, ui } from './store';

export class CombinePanel {
  readonly element = h('section', { id: 'panel-frames', role: 'tabpanel', 'aria-labelledby': 'tab-frames' });
  private controls = new Controls('mfdeconv', 'mf-', () => ui.combine.options, () => this.changed());
  private rows = h('div', { class: 'controls' });
  private list = h('div', { class: 'list choose', role: 'group', 'aria-label': 'Frames to combine' });
  private count = h('span', { class: 'muted', id: 'mf-count' });
  private details = h('div', { class: 'details' });
  private name = h('input', { type: 'text', id: 'mf-name', autocomplete: 'off', spellcheck: 'false' });
  private overwrite = h('input', { type: 'checkbox', id: 'mf-overwrite' });
  private job = new JobBar('mf-', () => (ui.combine.frames.length > 1 ? `Combine ${ui.combine.frames.length} frames` : 'Choose two frames or more'),
                           () => ui.combine.frames.length > 1, () => void this.run(), () => null);
  private command = new CommandBox('mf-', () => (ui.combine.frames.length > 1 ? this.request() : null));
  private listing: Listing | null = null;
  private state: State | null = null;
  private of = '';
  private plot: uPlot | null = null;

  constructor() {
    new ResizeObserver(() => this.plot?.setSize({ width: plotWidth(this.element), height: 150 })).observe(this.element);
  }

  async build(): Promise<void> {
    await this.controls.load();
    const reset = h('button', { type: 'button', class: 'plain', click: () => {
      ui.combine.options = {};
      this.fill();
      this.changed();
    } }, 'Defaults');
    const all = h('button', { type: 'button', class: 'plain', id: 'mf-all', click: () => {
      const names = this.listing?.files.map((file) => this.path(file.name)) ?? [];
      ui.combine.frames = ui.combine.frames.length === names.length ? [] : names;
      for (const box of this.list.querySelectorAll('input')) box.checked = ui.combine.frames.length > 0;
      this.changed();
    } }, 'All');
    this.name.addEventListener('input', () => { ui.combine.name = this.name.value.trim(); this.changed(); });
    this.overwrite.checked = ui.combine.overwrite;
    this.overwrite.addEventListener('change', () => { ui.combine.overwrite = this.overwrite.checked; this.changed(); });
    this.fill();
    this.element.append(
      h('div', { class: 'line' }, this.count, h('span', { class: 'space' }), all, reset), this.list,
      h('div', { class: 'control' }, h('div', { class: 'head' }, h('label', { for: 'mf-name' }, 'Result'), this.name)),
      h('label', { class: 'switch' }, this.overwrite, h('span', {}, 'Replace a file of this name')),
      this.rows, this.job.element, this.details, this.command.element);
    this.changed();
    await this.browse();
  }

  private fill(): void {
    const c = this.controls, here = () => ui.combine.folder;
    const seldom = ['min-iterations', 'huber-delta', 'reject-sigma', 'kappa', 'relax', 'sr-sigma', 'sr-psf-iterations', 'psf-grid',
      'rejection-masks', 'psf-dir', 'memory'];
    this.rows.replaceChildren(
      c.slider('iterations', { maximum: 100 }), c.select('super-resolution', ['1', '2', '3', '4'], null), c.choice('color'), c.choice('loss'),
      c.file('seed', here, () => null, 'files', ['robust', 'median']), c.toggle('star-masks'), c.toggle('variance-maps'),
      more(c, seldom, c.slider('min-iterations', { maximum: 50 }), c.number('huber-delta'), c.slider('reject-sigma', { maximum: 20, step: 0.5 }),
        c.slider('kappa', { maximum: 10, step: 0.01 }), c.slider('relax'), c.slider('sr-sigma', { step: 0.1 }), c.number('sr-psf-iterations'),
        c.slider('psf-grid', { maximum: 8 }), c.file('rejection-masks', here, () => null, 'folders'), c.file('psf-dir', here, () => null, 'folders'),
        c.text('memory')));
  }

  private path(name: string): string { return ui.combine.folder ? `${ui.combine.folder}/${name}` : name; }

  private outputName(): string { return ui.combine.name || this.path('combined.fits'); }

  private request(): object {
    return { command: 'mfdeconv', options: ui.combine.options, frames: ui.combine.frames, name: this.outputName(),
             overwrite: ui.combine.overwrite };
  }

  private changed(): void {
    remember();
    const count = ui.combine.frames.length;
    this.count.textContent = count === 0 ? 'Registered frames' : `${count} chosen`;
    this.name.value = this.outputName();
    this.command.renew();
    this.job.show(this.state);
  }

  // ---- which frames ----

  show(shown: boolean): void { if (shown) void this.browse(); }

  private async browse(): Promise<void> {
    try {
      this.listing = await get<Listing>('/api/files', { folder: ui.combine.folder });
    } catch (error) {
      if (ui.combine.folder === '') return complain(error);
      return this.enter('');
    }
    const there = new Set(this.listing.files.map((file) => this.path(file.name)));
    const kept = ui.combine.frames.filter((name) => there.has(name));
    const rows: HTMLElement[] = [];
    const folder = (name: string, to: string) => h('button', { type: 'button', class: 'row folder', click: () => void this.enter(to) }, h('span', {}, name));
    if (ui.combine.folder) rows.push(folder(`‹ ${ui.combine.folder}`, ui.combine.folder.split('/').slice(0, -1).join('/')));
    for (const name of this.listing.folders) rows.push(folder(`${name}/`, this.path(name)));
    for (const file of this.listing.files) {
      const name = this.path(file.name);
      const box = h('input', { type: 'checkbox', value: name, change: () => {
        const chosen = new Set(ui.combine.frames);
        if (box.checked) chosen.add(name);
        else chosen.delete(name);
        // in the order of the list, so that the same frames give the same command
        ui.combine.frames = (this.listing?.files ?? []).map((own) => this.path(own.name)).filter((own) => chosen.has(own));
        this.changed();
      } });
      box.checked = kept.includes(name);
      rows.push(h('label', { class: 'row' }, box, h('span', {}, file.name), h('span', { class: 'muted' }, bytes(file.bytes))));
    }
    if (this.listing.folders.length + this.listing.files.length === 0) rows.push(h('p', { class: 'muted' }, 'No frames here.'));
    this.list.replaceChildren(...rows);
    ui.combine.frames = kept;
    this.changed();
  }

  private async enter(folder: string): Promise<void> {
    ui.combine.folder = folder;
    ui.combine.frames = [];
    ui.combine.name = '';
    await this.browse();
  }

  // ---- the run ----

  update(state: State): void {
    const before = this.state;
    this.state = state;
    const id = state.combination?.id ?? '';
    if (id !== this.of) {
      this.of = id;
      if (id) void this.load(id);
      else this.render(null);
    }
    if (before?.job?.kind === 'combine' && !state.job) void this.browse();
    this.job.show(state);
  }

  private async run(): Promise<void> {
    try {
      await post('/api/combine', this.request());
    } catch (error) {
      complain(error);
    }
  }

  private async load(id: string): Promise<void> {
    try {
      const combination = await get<Combination>('/api/combination');
      if (this.of === id) this.render(combination);
    } catch (error) {
      complain(error);
    }
  }

  private render(data: Combination | null): void {
    const parts: HTMLElement[] = [];
    const plot = h('div', { class: 'plot low', id: 'mf-curve', role: 'img' });
    if (data && data.curve.length > 1) {
      const last = data.curve[data.curve.length - 1] ?? [0, 0, 0];
      plot.setAttribute('aria-label', `Change per iteration; after ${last[0]} iterations ${(100 * last[2]).toFixed(2)} % of the light`);
      parts.push(h('h3', {}, `${last[0]} iterations${data.stopped_early ? ', settled' : ''} · last change ${(100 * last[2]).toFixed(2)} %`), plot);
    }
    const left = data?.frames?.filter((frame) => !frame.used) ?? [];
    if (left.length > 0) {
      parts.push(h('h3', {}, left.length === 1 ? 'One frame was left out' : `${left.length} frames were left out`),
        h('dl', { class: 'left-out', id: 'mf-left-out' }, ...left.flatMap((frame) => [h('dt', {}, short(frame.name)), h('dd', {}, reason(frame))])));
    }
    const used = data?.frames?.filter((frame) => frame.used) ?? [];
    if (used.length > 0) {
      parts.push(h('div', { class: 'table' }, h('table', { id: 'mf-frames' },
        h('thead', {}, h('tr', {}, ...['frame', 'FWHM', 'weight'].map((text) => h('th', { scope: 'col' }, text)))),
        h('tbody', {}, ...used.map((frame) => h('tr', {}, h('td', {}, short(frame.name)),
          h('td', {}, frame.psf ? frame.psf.fwhm_px.toFixed(2) : '–'), h('td', {}, `${(100 * (frame.weight ?? 0)).toFixed(0)} %`)))))));
    }
    this.plot?.destroy();
    this.plot = null;
    this.details.replaceChildren(...parts);
    if (!data || data.curve.length < 2) return;
    this.plot = new uPlot({
      width: plotWidth(this.element), height: 150, padding: plotPadding, legend: { show: false }, cursor: { show: false },
      scales: { x: { time: false }, y: { distr: 3 } }, axes: axes('iteration', (v) => (v >= 0.01 ? String(v) : v.toExponential(0))),
      series: [{}, { stroke: '#7ba6ea', width: 1.5, points: { show: false } }, { stroke: '#f2d27a', width: 1.5, points: { show: false } }],
    }, [data.curve.map(([i]) => i), data.curve.map(([, update]) => Math.max(update, 1e-6)), data.curve.map(([, , change]) => Math.max(change, 1e-6))], plot);
    plot.after(h('p', { class: 'legend' }, h('span', { class: 'swatch width' }), 'update − 1', h('span', { class: 'swatch flux' }), 'change of the light'));
  }
}

const short = (name: string) => name.split('/').pop() ?? name;

/// Without the path of the frame, which stands beside it.
function reason(frame: { name: string; reason?: string }): string {
  const text = frame.reason ?? '', at = text.indexOf(`${short(frame.name)}: `);
  return at < 0 ? text : text.slice(at + short(frame.name).length + 2);
}
