// How sharp the frame is: figures, a map over the picture, the star profile and the stars.
import uPlot from 'uplot';

import { get, post, type Measurement, type MeasuredStar, type State } from './api';
import { complain, h } from './dom';
import { remember, ui } from './store';
import type { Viewer } from './viewer';

type Column = 'flux' | 'fwhm_px' | 'ellipticity' | 'snr';
const columns: [Column, string][] = [['flux', 'flux'], ['fwhm_px', 'FWHM'], ['ellipticity', 'ellipt.'], ['snr', 'S/N']];

/// From blue (sharp) over grey to red (soft).
function colour(share: number): [number, number, number] {
  const t = Math.min(1, Math.max(0, share));
  const ends = [[74, 134, 214], [150, 150, 150], [222, 98, 76]] as const;
  const [a, b] = t < 0.5 ? [ends[0], ends[1]] : [ends[1], ends[2]];
  const u = t < 0.5 ? 2 * t : 2 * t - 1;
  return [a[0] + u * (b[0] - a[0]), a[1] + u * (b[1] - a[1]), a[2] + u * (b[2] - a[2])];
}

export class StarsPanel {
  readonly element = h('section', { id: 'panel-stars', role: 'tabpanel', 'aria-labelledby': 'tab-stars' });
  private state: State | null = null;
  private data: Measurement | null = null;
  private of = '';
  private shown = false;
  private sort: Column = 'flux';
  private chosen: MeasuredStar | null = null;
  private plot: uPlot | null = null;
  private scale = 1;
  private pick: (x: number, y: number) => void = () => {};

  constructor(private viewer: Viewer) {
    viewer.addPainter((canvas, place, scale) => this.draw(canvas, place, scale));
    viewer.onClick = (x, y) => { if (this.shown) this.pick(x, y); };
    new ResizeObserver(() => this.plot?.setSize({ width: plotWidth(this.element), height: 190 })).observe(this.element);
  }

  show(shown: boolean): void {
    this.shown = shown;
    if (shown) void this.load();
    this.viewer.paint();
  }

  update(state: State): void {
    this.state = state;
    if (state.frame?.id !== this.of) {
      this.data = null;
      this.chosen = null;
      this.of = state.frame?.id ?? '';
      this.render();
    }
    if (this.shown) void this.load();
  }

  private asked = '';
  private async load(): Promise<void> {
    const state = this.state;
    if (!state?.frame || state.frame.loading || this.data) return;
    try {
      if (!state.measured) {
        if (this.asked === state.frame.id) return;
        this.asked = state.frame.id;
        await post('/api/measure');
        return;
      }
      const id = state.frame.id, data = await get<Measurement>('/api/measurement');
      if (this.of !== id || this.data) return;
      this.data = data;
      this.render();
      this.viewer.paint();
    } catch (error) {
      this.asked = '';
      complain(error);
    }
  }

  private render(): void {
    this.plot?.destroy();
    this.plot = null;
    this.pick = () => {};
    const data = this.data;
    if (!data) {
      this.element.replaceChildren(h('p', { class: 'muted' }, this.state?.frame ? 'measuring the stars…' : 'Open a frame to see its stars.'));
      return;
    }
    if (data.stars.used === 0) {
      this.element.replaceChildren(h('p', {}, data.summary));
      return;
    }
    const arcsec = data.fwhm_arcsec ? ` = ${data.fwhm_arcsec.median.toFixed(2)}″` : '';
    const figure = (name: string, value: string) => [h('dt', {}, name), h('dd', {}, value)];
    const field = h('input', { type: 'checkbox', id: 'field', change: () => {
      ui.field = field.checked;
      remember();
      this.viewer.paint();
    } });
    field.checked = ui.field;
    const plot = h('div', { class: 'plot', id: 'profile' });
    this.element.replaceChildren(
      h('p', { class: 'verdict', id: 'verdict' }, h('strong', {}, data.sampling.verdict), ` ${data.sampling.reason}`),
      h('dl', {},
        ...figure('FWHM', `${data.fwhm_px.median.toFixed(2)} px${arcsec}`),
        ...figure('Ellipticity', `${data.ellipticity.median.toFixed(3)} (eccentricity ${data.eccentricity.median.toFixed(2)})`),
        ...figure('Moffat beta', data.beta.median.toFixed(2)),
        ...figure('Stars', `${data.stars.used} of ${data.stars.detected} measured`),
        ...figure('Saturated', String(data.stars.saturated)),
        ...figure('Tilt', `${(100 * data.tilt).toFixed(0)} %`),
        ...figure('Centre to corners', `${(100 * data.off_axis).toFixed(0)} %`)),
      h('div', { class: 'line' }, h('label', { class: 'switch' }, field, h('span', {}, 'Map over the picture'))),
      this.map(data), h('h3', {}, 'Profile'), plot, h('h3', {}, 'Stars'), this.table(data));
    this.drawProfile(plot, data);
  }

  private span(data: Measurement): { middle: number; width: number } {
    const widths = data.field.cells.map((cell) => cell.fwhm_px);
    const low = Math.min(...widths), high = Math.max(...widths), middle = (low + high) / 2;
    // colours span at least 10 %, so that an even frame looks even
    return { middle, width: Math.max(high - low, 0.1 * middle) };
  }

  private map(data: Measurement): HTMLElement {
    const frame = this.state?.frame;
    const { columns: across, rows, cells } = data.field;
    const canvas = h('canvas', { class: 'map', id: 'map', role: 'img',
      'aria-label': `Map of star widths, ${Math.min(...cells.map((c) => c.fwhm_px)).toFixed(2)} to ${Math.max(...cells.map((c) => c.fwhm_px)).toFixed(2)} px` });
    const width = 640, height = frame ? Math.round((640 * frame.height) / frame.width) : 420;
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext('2d');
    if (!context || !frame) return canvas;
    const scale = width / frame.width, { middle, width: span } = this.span(data);
    const cw = width / across, ch = height / rows;
    for (const cell of cells) {
      const x = (cell.x + 0.5) * scale, y = (cell.y + 0.5) * scale;
      const [r, g, b] = colour((cell.fwhm_px - middle) / span + 0.5);
      context.fillStyle = `rgb(${r * 0.62},${g * 0.62},${b * 0.62})`;
      context.fillRect(Math.floor(x - cw / 2), Math.floor(y - ch / 2), Math.ceil(cw), Math.ceil(ch));
      whisker(context, x, y, Math.min(cw, ch), cell.ellipticity, cell.angle_rad, 'rgba(255,255,255,0.9)', 3);
      context.fillStyle = '#fff';
      context.font = '20px system-ui, sans-serif';
      context.textAlign = 'center';
      context.fillText(cell.fwhm_px.toFixed(2), x, y + ch / 2 - 8);
    }
    return canvas;
  }

  private drawProfile(element: HTMLElement, data: Measurement): void {
    const radii = [...new Set(data.profiles.flatMap((own) => own.map(([r]) => r)))].sort((a, b) => a - b);
    const lines = data.profiles.map((own) => {
      const at = new Map(own);
      // four decades, and nothing below: a logarithm ends there
      return radii.map((r) => { const v = at.get(r); return v !== undefined && v > 1e-4 ? v : null; });
    });
    const strokes = lines.length === 3 ? ['#e0776d', '#79c385', '#7ba6ea'] : ['#d0d0d0'];
    this.plot = new uPlot({
      width: plotWidth(this.element), height: 190, padding: plotPadding, legend: { show: false }, cursor: { show: false },
      scales: { x: { time: false }, y: { distr: 3, range: [1e-4, 1.2] } },
      axes: axes('px from the centre', String),
      series: [{}, ...lines.map((_, i) => ({ stroke: strokes[i] ?? '#ccc', width: 1.5, points: { show: false }, spanGaps: true }))],
    }, [radii, ...lines] as uPlot.AlignedData, element);
  }

  private table(data: Measurement): HTMLElement {
    const body = h('tbody', {});
    const rows: { star: MeasuredStar; line: HTMLTableRowElement }[] = [];
    const choose = (index: number, focus: boolean, go: boolean) => {
      const row = rows[index];
      if (!row) return;
      this.chosen = row.star;
      rows.forEach(({ line }, i) => {
        line.classList.toggle('chosen', i === index);
        line.setAttribute('aria-selected', String(i === index));
        line.tabIndex = i === index ? 0 : -1;
      });
      if (focus) row.line.focus();
      if (go) this.viewer.goTo(row.star.x, row.star.y);
      else row.line.scrollIntoView({ block: 'nearest' });
      this.viewer.paint();
    };
    const fill = () => {
      const stars = [...data.list].sort((a, b) => b[this.sort] - a[this.sort]).slice(0, 200);
      rows.splice(0, rows.length, ...stars.map((star, index) => ({ star, line: h('tr', {
        tabindex: -1, 'aria-selected': String(star === this.chosen), click: () => choose(index, false, true),
        keydown: (event: KeyboardEvent) => {
          const to = ({ ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: stars.length - 1, Enter: index, ' ': index } as Record<string, number>)[event.key];
          if (to === undefined) return;
          choose(to, true, true);
          event.preventDefault();
        } },
        h('td', {}, `${star.x.toFixed(0)}, ${star.y.toFixed(0)}`),
        h('td', {}, star.flux.toPrecision(3)), h('td', {}, star.fwhm_px.toFixed(2)),
        h('td', {}, star.ellipticity.toFixed(3)), h('td', {}, star.snr.toFixed(0))) })));
      body.replaceChildren(...rows.map(({ line }) => line));
      const known = Math.max(0, rows.findIndex(({ star }) => star === this.chosen));
      rows[known]?.line.classList.toggle('chosen', rows[known]?.star === this.chosen);
      if (rows[known]) rows[known].line.tabIndex = 0;  // the arrows lead to the others
    };
    this.pick = (x, y) => {
      const near = (star: MeasuredStar) => Math.hypot(star.x + 0.5 - x, star.y + 0.5 - y);
      const star = data.list.reduce((best, other) => (near(other) < near(best) ? other : best));
      if (near(star) > Math.max(12 / this.scale, 1.5 * star.fwhm_px)) return;
      const index = rows.findIndex((row) => row.star === star);
      if (index >= 0) return choose(index, false, false);
      this.chosen = star;  // too faint for the list
      for (const { line } of rows) line.classList.remove('chosen');
      this.viewer.paint();
    };
    const heads = columns.map(([column, name]) => {
      const head = h('th', { scope: 'col', 'aria-sort': column === this.sort ? 'descending' : 'none' },
        h('button', { type: 'button', class: 'plain', click: () => {
          this.sort = column;
          heads.forEach((other) => other.setAttribute('aria-sort', other === head ? 'descending' : 'none'));
          fill();
        } }, name));
      return head;
    });
    fill();
    return h('div', { class: 'table' }, h('table', { id: 'stars', role: 'grid', 'aria-label': 'Stars; Enter leads to the place' },
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'place'), ...heads)), body));
  }

  private draw(canvas: CanvasRenderingContext2D, place: (x: number, y: number) => [number, number], scale: number): void {
    const data = this.data, frame = this.state?.frame;
    this.scale = scale;
    if (!this.shown || !data || !frame) return;
    if (ui.field && data.field.cells.length > 0) {
      const cw = (frame.width / data.field.columns) * scale, ch = (frame.height / data.field.rows) * scale;
      const { middle, width } = this.span(data);
      for (const cell of data.field.cells) {
        const [x, y] = place(cell.x + 0.5, cell.y + 0.5);
        const [r, g, b] = colour((cell.fwhm_px - middle) / width + 0.5);
        canvas.fillStyle = `rgba(${r},${g},${b},0.2)`;
        canvas.fillRect(x - cw / 2, y - ch / 2, cw, ch);
        whisker(canvas, x, y, Math.min(cw, ch, 260), cell.ellipticity, cell.angle_rad, `rgb(${r + 30},${g + 30},${b + 30})`, 2);
      }
    }
    if (this.chosen) {
      const [x, y] = place(this.chosen.x + 0.5, this.chosen.y + 0.5);
      canvas.strokeStyle = '#f2d27a';
      canvas.lineWidth = 1.5;
      canvas.beginPath();
      canvas.arc(x, y, Math.max(9, 2.2 * this.chosen.fwhm_px * scale), 0, 2 * Math.PI);
      canvas.stroke();
    }
  }
}

/// A whole cell long at ellipticity 0.5.
function whisker(canvas: CanvasRenderingContext2D, x: number, y: number, cell: number, ellipticity: number,
                 angle: number, stroke: string, width: number): void {
  const half = Math.max(2, cell * Math.min(0.5, ellipticity));
  canvas.strokeStyle = stroke;
  canvas.lineWidth = width;
  canvas.lineCap = 'round';
  canvas.beginPath();
  canvas.moveTo(x - half * Math.cos(angle), y - half * Math.sin(angle));
  canvas.lineTo(x + half * Math.cos(angle), y + half * Math.sin(angle));
  canvas.stroke();
}

/// Of the panels' plots: as wide as what stands above them, with room for half a number at the end.
export const plotWidth = (panel: HTMLElement) => Math.max(200, panel.clientWidth - 28);
export const plotPadding: uPlot.Padding = [8, 16, 0, 0];

export function axes(label: string, format: (value: number) => string): uPlot.Axis[] {
  const common = { stroke: '#a6a6a6', grid: { stroke: '#2c2c2c', width: 1 }, ticks: { stroke: '#2c2c2c', width: 1 }, font: '11px system-ui, sans-serif' };
  return [{ ...common, label, labelFont: '11px system-ui, sans-serif', labelSize: 18, size: 26 },
          { ...common, size: 44, values: (_: uPlot, values: number[]) => values.map((v) => (v === null ? '' : format(v))) }];
}
