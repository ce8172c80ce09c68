// What the page remembers over a reload; what the server holds is not repeated here.
import type { Look, Options } from './api';

export interface Ui {
  options: Options; live: boolean; divider: number; look: Look; tab: string; loupe: boolean;
  view: { frame: string; x: number; y: number; width: number; height: number } | null;
  saveName: string; flatName: string; depth: string; field: boolean; trust: boolean;
  /// whose preview is shown
  work: 'sharpen' | 'background';
  sky: Options; skyLive: boolean;
  /// the frame whose control points were put by hand; they are in sky
  pointsOf: string;
  points: boolean; mask: boolean; model: boolean;
  combine: { options: Options; folder: string; frames: string[]; name: string; overwrite: boolean };
}

const key = 'limpid';
const fresh: Ui = {
  options: {}, live: true, divider: 0.5, look: { sky: 0.25, linked: false }, tab: 'sharpen',
  loupe: false, view: null, saveName: '', flatName: '', depth: 'as-input', field: true, trust: true,
  work: 'sharpen', sky: {}, skyLive: true, pointsOf: '', points: true, mask: false, model: false,
  combine: { options: {}, folder: '', frames: [], name: '', overwrite: false },
};

function load(): Ui {
  try {
    return { ...fresh, ...JSON.parse(localStorage.getItem(key) ?? '{}') };
  } catch {
    return { ...fresh };
  }
}

export const ui: Ui = load();
if (Array.isArray(ui.sky['points'])) delete ui.sky['points'];  // of a page before this one

export function remember(): void {
  try {
    localStorage.setItem(key, JSON.stringify(ui));
  } catch {
    // a browser that keeps nothing still shows everything
  }
}

export function sameOptions(a: Options, b: Options): boolean {
  const sorted = (options: Options) => JSON.stringify(Object.entries(options).sort(([x], [y]) => (x < y ? -1 : 1)));
  return sorted(a) === sorted(b);
}
