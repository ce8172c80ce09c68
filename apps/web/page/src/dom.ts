// Elements without a framework.

type Child = Node | string | null;
type Attributes = Record<string, string | number | boolean | ((event: any) => void)>;

/// An element with attributes (functions are listeners) and children.
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Attributes = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child): child is Node | string => child !== null));
  return element;
}

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`no element ${id}`);
  return element as T;
}

/// Calls `body` once things have been quiet for so long.
export function settled(milliseconds: number, body: () => void): () => void {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = window.setTimeout(body, milliseconds);
  };
}

/// What options of the command line are called here, as far as they have a control.
export const controlNames = new Map([['overwrite', 'Replace a file of this name']]);

export const inPageWords = (text: string) => text.replace(/--([a-z][a-z-]+)(?: [A-Z]{2,})?/g, (own, key: string) => {
  const name = controlNames.get(key);
  return name ? `“${name}”` : own;
});

export const title = (key: string) => (key.charAt(0).toUpperCase() + key.slice(1)).replaceAll('-', ' ')
  .replace(/^Psf/, 'PSF').replace(/^Sr /, 'SR ').replace(/^Ai$/, 'AI');

export function say(words: string, kind: 'note' | 'error' = 'note', ...more: HTMLElement[]): HTMLElement {
  const list = byId('messages'), text = inPageWords(words);
  for (const old of [...list.children]) if (old.firstElementChild?.textContent === text) old.remove();
  const message = h('div', { class: `message ${kind}`, ...(kind === 'error' ? { role: 'alert' } : {}) },
                    h('span', {}, text), ...more);
  message.append(h('button', { type: 'button', 'aria-label': 'Dismiss', click: () => message.remove() }, '×'));
  list.append(message);
  while (list.children.length > 3) list.firstElementChild?.remove();
  window.setTimeout(() => message.remove(), kind === 'error' ? 15000 : 6000);
  return message;
}

export function complain(error: unknown): void {
  say(error instanceof Error ? error.message : String(error), 'error');
}

export function bytes(count: number): string {
  return count < 1e6 ? `${Math.max(1, Math.round(count / 1e3))} kB`
    : count < 1e9 ? `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB` : `${(count / 1e9).toFixed(1)} GB`;
}

export function duration(seconds: number): string {
  const whole = Math.max(1, Math.round(seconds));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/// A name for what was made of a frame; the one used last, if it was of this frame.
export function nameBeside(frame: string, what: string, last = ''): string {
  const stem = frame.replace(/(\.[a-z0-9]{1,5}){1,2}$/i, '');
  const ending = /\.xisf$/i.test(frame) ? '.xisf' : /\.tiff?$/i.test(frame) ? '.tif' : '.fits';
  return last && last.startsWith(stem) ? last : `${stem}-${what}${ending}`;
}
