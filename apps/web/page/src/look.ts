// The stretch, and the histogram of what it makes of the frame.
import { get } from './api';
import { byId, h, settled } from './dom';
import { remember, ui } from './store';

export class LookPanel {
  private canvas = h('canvas', { width: 320, height: 72, role: 'img', 'aria-label': 'Histogram of the picture as shown' });
  private slider = h('input', { type: 'range', min: 0.05, max: 0.6, step: 0.01, id: 'sky', 'aria-label': 'Brightness of the sky' });
  private linked = h('input', { type: 'checkbox', id: 'linked' });
  private layer = '';

  constructor(changed: () => void) {
    const quick = settled(60, () => { remember(); changed(); void this.draw(); });
    this.slider.value = String(ui.look.sky);
    this.linked.checked = ui.look.linked;
    this.slider.addEventListener('input', () => { ui.look = { ...ui.look, sky: Number(this.slider.value) }; quick(); });
    this.slider.addEventListener('dblclick', () => { this.slider.value = '0.25'; this.slider.dispatchEvent(new Event('input')); });
    this.linked.addEventListener('change', () => { ui.look = { ...ui.look, linked: this.linked.checked }; quick(); });
    byId('look').append(this.canvas, h('div', { class: 'look-row' },
      h('label', { for: 'sky', class: 'sky' }, 'Stretch'), this.slider,
      h('label', { class: 'check', title: 'One black point for all channels: the sky keeps its colour' }, this.linked, 'Linked')));
  }

  show(layer: string | null, colour: boolean): void {
    byId('look').hidden = !layer;
    (this.linked.parentElement as HTMLElement).hidden = !colour;
    if (!layer || layer === this.layer) return;
    this.layer = layer;
    void this.draw();
  }

  private async draw(): Promise<void> {
    const layer = this.layer, look = ui.look;
    let counts: number[][];
    try {
      counts = (await get<{ counts: number[][] }>('/api/histogram', {
        layer, sky: look.sky, linked: look.linked ? 1 : 0 })).counts;
    } catch {
      return;  // the layer is gone; the next one draws itself
    }
    const context = this.canvas.getContext('2d');
    if (!context || layer !== this.layer) return;
    const { width, height } = this.canvas;
    context.clearRect(0, 0, width, height);
    context.globalCompositeOperation = 'lighter';
    const most = Math.max(1, ...counts.flatMap((own) => own.slice(1, -1)));
    const colours = counts.length === 3 ? ['#7a302c', '#2c6434', '#2c4078'] : ['#9a9a9a'];  // their sum is grey
    counts.forEach((own, channel) => {
      context.fillStyle = colours[channel] ?? '#999';
      context.beginPath();
      context.moveTo(0, height);
      own.forEach((count, bin) => {
        const tall = Math.min(1, Math.sqrt(count / most)) * (height - 2);
        context.lineTo(((bin + 0.5) / own.length) * width, height - tall);
      });
      context.lineTo(width, height);
      context.fill();
    });
    context.globalCompositeOperation = 'source-over';
  }
}
