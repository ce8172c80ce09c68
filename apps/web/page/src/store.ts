// What the page remembers over a reload; what the server holds is not repeated here.
import type { Look, Options } from './api';

export interface Ui {
  options: Options; live: boolean; divider: number; look: Look; tab: string; loupe: boolean;
  view: { frame: string; x: number; y: number; width: number; height: number } | null;
  saveName: string; depth: string; field: boolean; trust: boolean;
}

const key = 'limpid';
const fresh: Ui = {
  options: {}, live: true, divider: 0.5, look: { sky: 0.25, linked: false }, tab: 'sharpen',
  loupe: false, view: null, saveName: '', depth: 'as-input', field: true, trust: true,
};

function load(): Ui {
  try {
    return { ...fresh, ...JSON.parse(localStorage.getItem(key) ?? '{}') };
  } catch {
    return { ...fresh };
  }
}

export const ui: Ui = load();

export function remember(): void {
  try {
    localStorage.setItem(key, JSON.stringify(ui));
  } catch {
    // a browser that keeps nothing still shows everything
  }
}
