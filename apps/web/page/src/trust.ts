// How far the result may be trusted: the re-blurring test as a map, and what became of the stars.
import uPlot from 'uplot';

import { get, type Report, type State } from './api';
import { complain, h } from './dom';
import { axes, plotPadding, plotWidth } from './stars';
import { remember, ui } from './store';
import type { Viewer } from './viewer';

export class TrustPanel {
  readonly element = h('section', { id: 'panel-trust', role: 'tabpanel', 'aria-labelledby': 'tab-trust' });
  private state: State | null = null;
  private report: Report | null = null;
  private of = '-';
  private shown = false;
  private plot: uPlot | null = null;

  constructor(private viewer: Viewer, private saveMap: () => void) {
    viewer.addPainter((canvas, place, scale) => {
      if (!this.shown || !ui.trust) return;
      canvas.strokeStyle = 'rgba(242,210,122,0.4)';
      canvas.lineWidth = 1;
      for (const tile of this.report?.reblurring?.doubtful_tiles ?? []) {
        const [x, y] = place(tile.x, tile.y);
        canvas.strokeRect(x + 2, y + 2, tile.width * scale - 4, tile.height * scale - 4);
      }
    });
    new ResizeObserver(() => this.plot?.setSize({ width: plotWidth(this.element), height: 220 })).observe(this.element);
  }

  show(shown: boolean): void {
    this.shown = shown;
    this.overlay();
    this.viewer.paint();
  }

  update(state: State): void {
    this.state = state;
    const id = state.result?.command === 'deconvolve' ? state.result.id : '';
    if (id !== this.of) {
      this.of = id;
      this.report = null;
      this.render();
      if (id) void this.load(id);
    }
    this.overlay();
  }

  private async load(id: string): Promise<void> {
    try {
      const report = await get<Report>('/api/report');
      if (this.of !== id) return;
      this.report = report;
      this.render();
      this.viewer.paint();
    } catch (error) {
      complain(error);
    }
  }

  private overlay(): void {
    const frame = this.state?.frame, trust = this.state?.result?.trust;
    if (this.shown && ui.trust && frame && trust) {
      void this.viewer.show('trust', trust, { x: 0, y: 0, width: frame.width, height: frame.height },
        frame.levels, { sky: 0.25, linked: false }, false, 0.75);
    } else {
      this.viewer.hide('trust');
    }
  }

  private render(): void {
    this.plot?.destroy();
    this.plot = null;
    const report = this.report;
    if (this.of === '') {
      this.element.replaceChildren(h('p', { class: 'muted' },
        'Apply to the whole frame first. The result is then blurred again and compared with what was recorded, and its stars are measured anew.'));
      return;
    }
    if (!report) {
      this.element.replaceChildren(h('p', { class: 'muted' }, 'reading the report…'));
      return;
    }
    const parts: HTMLElement[] = [];
    const reblurring = report.reblurring, stars = report.stars;
    if (reblurring) {
      const doubtful = reblurring.doubtful_tiles, unclipped = reblurring.unclipped_star_residual_rms;
      const atStars = unclipped > 0 ? ` (${unclipped.toFixed(2)} at stars that are not clipped)` : '';
      parts.push(h('p', { class: 'verdict', id: 'trust-verdict' },
        h('strong', {}, doubtful.length === 0 ? 'explained' : `${doubtful.length} of ${reblurring.tiles} places in doubt`),
        ` Blurred again, the result gives the recorded frame within ${reblurring.residual_rms.toFixed(2)} times its noise${atStars}.`));
      const box = h('input', { type: 'checkbox', id: 'trust-map', change: () => {
        ui.trust = box.checked;
        remember();
        this.overlay();
        this.viewer.paint();
      } });
      box.checked = ui.trust;
      parts.push(h('div', { class: 'line' }, h('label', { class: 'switch' }, box, h('span', {}, 'Map over the picture')), h('span', { class: 'space' }),
        h('button', { type: 'button', class: 'plain', id: 'save-map', click: this.saveMap }, 'Save map…')));
      parts.push(h('p', { class: 'legend' }, h('span', { class: 'swatch below' }), 'less light than recorded', h('span', { class: 'swatch above' }), 'more (full at 5 σ)'));
      if (doubtful.length > 0) {
        parts.push(h('div', { class: 'places' }, ...doubtful.slice(0, 40).map((tile) => h('button', {
          type: 'button', class: 'row', click: () => this.viewer.goTo(tile.x + tile.width / 2, tile.y + tile.height / 2, 3 * tile.width) },
          h('span', {}, `${tile.x}, ${tile.y}`), h('span', { class: 'muted' }, `${tile.worst_sigma.toFixed(0)} σ`)))));
      }
    } else {
      for (const note of report.notes) parts.push(h('p', { class: 'muted' }, note));
    }
    if (stars && stars.compared > 0) {
      const figure = (name: string, value: string) => [h('dt', {}, name), h('dd', {}, value)];
      const percent = (value: number) => `${value >= 0 ? '+' : ''}${(100 * value).toFixed(1)} %`;
      parts.push(h('h3', {}, `${stars.compared} stars, before and after`), h('dl', {},
        ...figure('Flux', `${percent(stars.flux_ratio.median - 1)} ± ${(100 * stars.flux_ratio.scatter).toFixed(1)} %`),
        ...figure('Moved', `${stars.centroid_shift_px.median.toFixed(2)} px`),
        ...figure('Width', `${stars.fwhm_ratio.median.toFixed(2)} (asked ${stars.fwhm_ratio_asked.toFixed(2)})`),
        ...figure('Ellipticity', `${stars.ellipticity_before.median.toFixed(3)} → ${stars.ellipticity_after.median.toFixed(3)}`),
        ...figure('Noise', `× ${(report.noise_ratio ?? 1).toFixed(2)}`)));
    }
    const plot = h('div', { class: 'plot', id: 'photometry', role: 'img', 'aria-label': 'Flux after over flux before, against flux' });
    if (report.list.length > 0) parts.push(plot);
    this.element.replaceChildren(...parts);
    if (report.list.length > 0) this.drawPlot(plot, report);
  }

  private drawPlot(element: HTMLElement, report: Report): void {
    const stars = [...report.list].sort((a, b) => a.flux_before - b.flux_before);
    const flux = stars.map((s) => s.flux_before);
    // one that failed (or a neighbour's light) does not hide what became of the others
    const inside = (value: number) => Math.min(2, Math.max(0, value));
    const all = stars.map((s) => s.flux_after / s.flux_before), ratio = all.map(inside);
    const width = stars.map((s) => inside(s.fwhm_after_px / s.fwhm_before_px));
    const beyond = all.filter((value) => value !== inside(value)).length;
    const ends = [...ratio, ...width, 1];
    const dots = (stroke: string): uPlot.Series => ({ stroke, paths: () => null, points: { show: true, size: 5, fill: stroke, width: 0 } });
    this.plot = new uPlot({
      width: plotWidth(this.element), height: 220, padding: plotPadding, cursor: { show: false },
      legend: { show: false },
      scales: { x: { time: false, distr: 3 }, y: { range: [Math.min(...ends) - 0.05, Math.max(...ends) + 0.05] } },
      axes: axes('flux before', (v) => v.toFixed(2)),
      series: [{}, dots('#f2d27a'), dots('#7ba6ea')],
    }, [flux, ratio, width], element);
    element.after(h('p', { class: 'legend' }, h('span', { class: 'swatch flux' }), 'flux', h('span', { class: 'swatch width' }), 'width, after over before'));
    if (beyond > 0) element.after(h('p', { class: 'legend' }, `${beyond} beyond the edge`));
  }
}
