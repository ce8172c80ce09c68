// The picture: layers of tiles, the border between before and after, and what is drawn on top.
import OpenSeadragon from 'openseadragon';

import { get, pictureUrl, type FrameState, type Look, type PixelAnswer } from './api';
import { byId, settled } from './dom';
import { remember, ui } from './store';

const tile = 512;

export interface Region { x: number; y: number; width: number; height: number; }
/// Draws on the overlay; `place` turns pixels of the frame into those of the canvas, `scale` is how
/// many of these one is.
export type Painter = (canvas: CanvasRenderingContext2D, place: (x: number, y: number) => [number, number],
                       scale: number) => void;

interface Layer {
  source: string;  // which pixels: changes when they do
  item: OpenSeadragon.TiledImage | null;
  region: Region;
  opacity: number;
  clipped: boolean;
}

export class Viewer {
  readonly osd: OpenSeadragon.Viewer;
  frame: FrameState | null = null;
  onMove: () => void = () => {};
  /// A double click on a place; true when it was for something else than to zoom.
  onDouble: (x: number, y: number) => boolean = () => false;
  /// A click that moved nothing.
  onClick: (x: number, y: number) => void = () => {};
  private layers = new Map<string, Layer>();
  private painters: Painter[] = [];
  private holding = false;
  private pending = new Map<string, () => void>();
  private afterLayer: (x: number, y: number) => { layer: string; x: number; y: number } | null = () => null;

  constructor() {
    this.osd = OpenSeadragon({
      element: byId('viewer'),
      drawer: 'canvas',
      showNavigationControl: false,
      animationTime: matchMedia('(prefers-reduced-motion: reduce)').matches ? 0 : 0.25,
      springStiffness: 9,
      maxZoomPixelRatio: 16,
      smoothTileEdgesMinZoom: Infinity, minZoomImageRatio: 0.7, visibilityRatio: 0.4,
      immediateRender: true,
      imageLoaderLimit: 4, timeout: 60000,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: true },
    });
    this.osd.addHandler('canvas-key', (event: any) => {
      // arrows, + and - stay with the viewer; letters belong to the page
      const key = String(event.originalEvent?.key ?? '');
      if (/^[a-z0-9]$/i.test(key)) event.preventDefaultAction = true;
    });
    this.osd.addHandler('canvas-double-click', (event) => {
      const at = this.layers.get('before')?.item?.viewerElementToImageCoordinates(event.position);
      if (at && this.onDouble(at.x, at.y)) event.preventDefaultAction = true;
    });
    this.osd.addHandler('canvas-click', (event) => {
      const at = event.quick ? this.layers.get('before')?.item?.viewerElementToImageCoordinates(event.position) : null;
      if (at) this.onClick(at.x, at.y);
    });
    this.osd.addHandler('update-viewport', () => this.paint());
    // not 'animation', which a new clip raises again
    this.osd.addHandler('viewport-change', () => this.clip());
    this.osd.addHandler('resize', () => this.clip());
    this.osd.addHandler('zoom', () => {
      const item = this.layers.get('before')?.item;
      if (!item || !this.osd.drawer) return;
      const ratio = item.viewportToImageZoom(this.osd.viewport.getZoom());
      this.osd.drawer.setImageSmoothingEnabled(ratio < 2);
    });
    const settle = settled(80, () => { this.rememberView(); this.onMove(); });
    this.osd.addHandler('viewport-change', settle);
    this.osd.addHandler('resize', settle);
    new ResizeObserver(() => this.paint()).observe(byId('stage'));
    this.followPointer();
    this.followDivider();
  }

  // ---- layers ----

  async open(frame: FrameState, look: Look): Promise<void> {
    this.close();
    await this.settle(frame, look);
    const view = ui.view;
    if (view && view.frame === frame.name && view.width > 0) {
      const item = this.layers.get('before')?.item;
      if (item) this.osd.viewport.fitBounds(
        item.imageToViewportRectangle(view.x, view.y, view.width, view.height), true);
    } else {
      this.osd.viewport.goHome(true);
    }
  }

  /// The same frame, now read as a whole: the view stays.
  settle(frame: FrameState, look: Look): Promise<void> {
    this.frame = frame;
    return this.show('before', frame.id, { x: 0, y: 0, width: frame.width, height: frame.height }, frame.levels, look, false, 1);
  }

  close(): void {
    this.frame = null;
    this.layers.clear();
    this.pending.clear();
    this.osd.world.removeAll();
    byId('divider').hidden = true;
    this.paint();
  }

  /// Shows `source` in the place of `name`; what was there stays until the new tiles are in.
  async show(name: string, source: string, region: Region, levels: number, look: Look,
             clipped: boolean, opacity: number): Promise<void> {
    const frame = this.frame;
    if (!frame) return;
    const key = `${source} ${look.sky} ${look.linked}`;
    const old = this.layers.get(name);
    if (old?.source === key) return;
    const layer: Layer = { source: key, item: null, region, opacity, clipped };
    this.layers.set(name, layer);
    this.pending.get(name)?.();
    const side = name === 'preview' && Math.max(region.width, region.height) <= 1024 ? 1024 : tile;
    const item = await new Promise<OpenSeadragon.TiledImage | null>((resolve) => {
      this.osd.addTiledImage({
        tileSource: {
          width: region.width, height: region.height, tileSize: side, tileOverlap: 0,
          minLevel: 0, maxLevel: levels - 1,
          // else layers above the first go through a canvas of their own, which smooths when the first does not
          hasTransparency: () => false,
          getTileUrl: (level: number, x: number, y: number) => pictureUrl(
            source, levels - 1 - level, x * side, y * side, side, side, look),
        } as any,
        x: region.x / frame.width, y: region.y / frame.width, width: region.width / frame.width,
        opacity: 0,
        success: (event: any) => resolve(event.item),
        error: () => resolve(null),
      } as any);
    });
    if (!item) return;
    if (this.layers.get(name) !== layer || this.frame !== frame) {
      this.osd.world.removeItem(item);
      return;
    }
    layer.item = item;
    this.order();
    this.clip();
    const drop = () => {
      this.pending.delete(name);
      if (old?.item && this.osd.world.getIndexOfItem(old.item) >= 0) this.osd.world.removeItem(old.item);
    };
    if (old?.item) {
      this.pending.set(name, drop);
      const done = () => { if (this.pending.get(name) === drop) drop(); };
      if (item.getFullyLoaded()) done();
      item.addHandler('fully-loaded-change', (event: any) => { if (event.fullyLoaded) done(); });
      window.setTimeout(done, 4000);
    }
  }

  hide(name: string): void {
    const layer = this.layers.get(name);
    this.layers.delete(name);
    this.pending.get(name)?.();
    if (layer?.item && this.osd.world.getIndexOfItem(layer.item) >= 0) this.osd.world.removeItem(layer.item);
    this.clip();
  }

  setOpacity(name: string, opacity: number): void {
    const layer = this.layers.get(name);
    if (!layer) return;
    layer.opacity = opacity;
    this.clip();
  }

  private order(): void {
    let index = 0;
    for (const name of ['before', 'after', 'preview', 'trust']) {
      const item = this.layers.get(name)?.item;
      if (!item) continue;
      const all = this.osd.world.getItemCount();
      // an older one of the same kind lies right under it until it goes
      this.osd.world.setItemIndex(item, Math.min(index + (all > this.layers.size ? 1 : 0), all - 1));
      index = this.osd.world.getIndexOfItem(item) + 1;
    }
  }

  /// Left of the border lies what was recorded.
  private clip(): void {
    const divider = byId('divider');
    const compared = [...this.layers.values()].some((layer) => layer.clipped && layer.item);
    divider.hidden = !compared;
    divider.style.left = `${ui.divider * 100}%`;
    divider.setAttribute('aria-valuenow', String(Math.round(ui.divider * 100)));
    const width = byId('viewer').clientWidth;
    for (const layer of this.layers.values()) {
      const item = layer.item;
      if (!item) continue;
      const show = (opacity: number) => { if (item.getOpacity() !== opacity) item.setOpacity(opacity); };
      if (!layer.clipped) {
        show(layer.opacity);
        continue;
      }
      const border = item.viewportToImageCoordinates(
        this.osd.viewport.pointFromPixel(new OpenSeadragon.Point(ui.divider * width, 0), true)).x;
      const left = Math.max(0, border);
      const visible = !this.holding && left < layer.region.width;
      show(visible ? layer.opacity : 0);
      const clip = item.getClip();
      if (visible && clip?.x !== left)
        item.setClip(new OpenSeadragon.Rect(left, 0, layer.region.width - left, layer.region.height));
    }
    this.paint();
  }

  hold(holding: boolean): void {
    if (this.holding === holding) return;
    this.holding = holding;
    byId('hold').classList.toggle('on', holding);
    byId('divider').classList.toggle('held', holding);
    this.clip();
  }

  // ---- places ----

  fit(): void { this.osd.viewport.goHome(); }

  /// One pixel of the frame on one pixel of the page.
  full(): void {
    const item = this.layers.get('before')?.item;
    if (item) this.osd.viewport.zoomTo(item.imageToViewportZoom(1 / devicePixelRatio));
  }

  goTo(x: number, y: number, side = 160): void {
    const item = this.layers.get('before')?.item;
    // above the middle, where the handle of the border lies
    if (item) this.osd.viewport.fitBounds(item.imageToViewportRectangle(x - side / 2, y - 0.35 * side, side, side));
  }

  /// Moves the view when a place is not in it.
  reveal(x: number, y: number): void {
    const item = this.layers.get('before')?.item, box = byId('viewer'), edge = 16;
    if (!item) return;
    const at = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(x, y));
    const away = (value: number, length: number) => value < edge || value > length - edge;
    if (away(at.x, box.clientWidth) || away(at.y, box.clientHeight))
      this.osd.viewport.panTo(item.imageToViewportCoordinates(new OpenSeadragon.Point(x, y)));
  }

  /// What is seen of the frame, in whole pixels; of a larger part its middle.
  visible(limit: number): Region | null {
    const item = this.layers.get('before')?.item, frame = this.frame;
    if (!item || !frame) return null;
    const bounds = item.viewportToImageRectangle(this.osd.viewport.getBounds(true));
    const range = (start: number, length: number, whole: number): [number, number] => {
      let from = Math.max(0, Math.floor(start)), to = Math.min(whole, Math.ceil(start + length));
      if (to - from > limit) {
        from = Math.max(0, Math.round((from + to - limit) / 2));
        to = from + limit;
      }
      return [from, to - from];
    };
    const [x, width] = range(bounds.x, bounds.width, frame.width);
    const [y, height] = range(bounds.y, bounds.height, frame.height);
    return width > 0 && height > 0 ? { x, y, width, height } : null;
  }

  /// The place of the frame under a point of the page.
  placeUnder(clientX: number, clientY: number): { x: number; y: number } | null {
    const item = this.layers.get('before')?.item;
    if (!item) return null;
    const box = byId('viewer').getBoundingClientRect();
    return item.viewerElementToImageCoordinates(new OpenSeadragon.Point(clientX - box.left, clientY - box.top));
  }

  private rememberView(): void {
    const item = this.layers.get('before')?.item;
    if (!item || !this.frame) return;
    const b = item.viewportToImageRectangle(this.osd.viewport.getBounds());
    ui.view = { frame: this.frame.name, x: b.x, y: b.y, width: b.width, height: b.height };
    remember();
  }

  // ---- drawing on top ----

  addPainter(painter: Painter): void { this.painters.push(painter); }

  paint(): void {
    const canvas = byId<HTMLCanvasElement>('overlay');
    const ratio = devicePixelRatio;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    const context = canvas.getContext('2d');
    const item = this.layers.get('before')?.item;
    if (!context) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (!item || !this.frame) return;
    const zero = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
    const one = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(1000, 0));
    const scale = (one.x - zero.x) / 1000;
    const place = (x: number, y: number): [number, number] => [zero.x + x * scale, zero.y + y * scale];
    for (const painter of this.painters) {
      context.save();
      painter(context, place, scale);
      context.restore();
    }
  }

  // ---- pointer ----

  /// Where to find the pixels of the result at a place, for the loupe.
  setAfter(find: (x: number, y: number) => { layer: string; x: number; y: number } | null): void {
    this.afterLayer = find;
  }

  private followPointer(): void {
    let wanted: [number, number] | null = null, asking = false;
    const ask = async () => {
      if (asking) return;
      asking = true;
      while (wanted && this.frame) {
        const [x, y] = wanted;
        wanted = null;
        try {
          this.tell(await get<PixelAnswer>('/api/pixel', { x, y }));
        } catch {
          break;
        }
      }
      asking = false;
    };
    byId('stage').addEventListener('pointermove', (event) => {
      const at = this.placeUnder(event.clientX, event.clientY), frame = this.frame;
      if (!at || !frame) return;
      const x = Math.floor(at.x), y = Math.floor(at.y);
      if (x < 0 || y < 0 || x >= frame.width || y >= frame.height) {
        byId('readout').textContent = '';
        return;
      }
      wanted = [x, y];
      void ask();
      this.magnify(x, y);
    });
    byId('stage').addEventListener('pointerleave', () => { byId('readout').textContent = ''; });
  }

  private tell(pixel: PixelAnswer): void {
    const number = (value: number | null) => value === null ? '–'
      : Math.abs(value) >= 1000 ? value.toFixed(0) : Number(value.toPrecision(4)).toString();
    const words = (values: (number | null)[]) => values.map(number).join(' ');
    const after = (ui.work === 'background' ? pixel.sky : pixel.preview) ?? pixel.after;
    byId('readout').textContent =
      `${pixel.x}, ${pixel.y}   ${words(pixel.before)}${after ? `  →  ${words(after)}` : ''}`;
  }

  private loupeBusy = 0;
  private magnify(x: number, y: number): void {
    const loupe = byId('loupe');
    if (!ui.loupe || !this.frame || this.loupeBusy > 0) return;
    const side = 150, half = side / 2;
    loupe.hidden = false;
    const set = (id: string, at: { layer: string; x: number; y: number } | null) => {
      const image = byId<HTMLImageElement>(id);
      image.parentElement!.classList.toggle('empty', !at);
      if (!at) return;
      const left = Math.max(0, Math.round(at.x - half)), top = Math.max(0, Math.round(at.y - half));
      const url = pictureUrl(at.layer, 0, left, top, side, side, ui.look);
      if (image.getAttribute('src') === url) return;
      ++this.loupeBusy;
      image.onload = image.onerror = () => { this.loupeBusy = Math.max(0, this.loupeBusy - 1); };
      image.src = url;
    };
    set('loupe-before', { layer: this.frame.id, x, y });
    set('loupe-after', this.afterLayer(x, y));
  }

  private followDivider(): void {
    const divider = byId('divider');
    const move = (share: number) => {
      ui.divider = Math.min(1, Math.max(0, share));
      remember();
      this.clip();
    };
    divider.addEventListener('pointerdown', (event) => {
      divider.setPointerCapture(event.pointerId);
      event.preventDefault();
      divider.focus();
    });
    divider.addEventListener('pointermove', (event) => {
      if (!divider.hasPointerCapture(event.pointerId)) return;
      const box = byId('viewer').getBoundingClientRect();
      move((event.clientX - box.left) / box.width);
    });
    divider.addEventListener('keydown', (event) => {
      const step = event.key === 'ArrowLeft' ? -0.02 : event.key === 'ArrowRight' ? 0.02 : 0;
      if (event.key === 'Home') move(0);
      else if (event.key === 'End') move(1);
      else if (step !== 0) move(ui.divider + step);
      else return;
      event.preventDefault();
    });
  }
}
