// Rows of controls made from the schema of a command: its names, ranges, defaults and sentences.
import { get, type Listing, type Options, type Parameter, type Value } from './api';
import { controlNames, h, inPageWords, title } from './dom';

/// What a slider spans; the number beside it takes the whole range of the option.
export interface Span { minimum?: number; maximum?: number; step?: number; unit?: string; }

export class Controls {
  readonly parameters = new Map<string, Parameter>();

  /// `prefix` keeps the ids of panels apart; `changed` is called after each change.
  constructor(private command: string, private prefix: string, private store: () => Options,
              private changed: () => void) {}

  async load(): Promise<void> {
    const schema = await get<{ parameters: Parameter[] }>('/api/schema', { command: this.command });
    for (const parameter of schema.parameters) this.parameters.set(parameter.name.slice(2), parameter);
    const options = this.store();
    for (const key of Object.keys(options)) if (!this.parameters.has(key)) delete options[key];
  }

  value(key: string): Value {
    return this.store()[key] ?? this.parameters.get(key)?.default ?? null;
  }

  set(key: string, value: Value): void {
    const options = this.store();
    if (value === this.parameters.get(key)?.default || value === null) delete options[key];
    else options[key] = value;
    this.changed();
  }

  isSet(keys: string[]): boolean { return keys.some((key) => key in this.store()); }

  row(key: string, ...content: HTMLElement[]): HTMLElement {
    if (!controlNames.has(key)) controlNames.set(key, title(key));
    return h('div', { class: 'control', 'data-option': key }, ...content,
      h('p', { class: 'hint', id: this.hint(key) }, inPageWords(this.parameters.get(key)?.text ?? '')));
  }

  /// The head with name and number, and the slider under it.
  sliderParts(key: string, span: Span, read: () => number, write: (value: number) => void): [HTMLElement, HTMLInputElement] {
    const p = this.parameters.get(key);
    const step = span.step ?? (p?.type === 'integer' ? 1 : 0.01);
    const low = p?.minimum ?? span.minimum ?? 0, high = p?.maximum ?? span.maximum ?? 1;
    const number = h('input', { type: 'number', min: low, max: high, step: p?.type === 'integer' ? 1 : 'any', 'aria-label': title(key), 'aria-describedby': this.hint(key) });
    const range = h('input', { type: 'range', id: this.prefix + key, min: span.minimum ?? low, max: span.maximum ?? high, step, 'aria-describedby': this.hint(key) });
    const take = (from: HTMLInputElement, to: HTMLInputElement) => () => {
      const value = Number(from.value);
      const fits = from.value !== '' && value >= low && value <= high && (p?.type !== 'integer' || Number.isInteger(value));
      if (!fits) return from.setAttribute('aria-invalid', 'true');
      from.removeAttribute('aria-invalid');
      to.value = String(value);
      write(value);
    };
    number.value = range.value = String(read());
    range.addEventListener('input', take(range, number));
    number.addEventListener('input', take(number, range));
    return [h('div', { class: 'head' }, h('label', { for: this.prefix + key }, title(key)), h('span', { class: 'value' }, number, span.unit ?? '')), range];
  }

  slider(key: string, span: Span = {}): HTMLElement {
    return this.row(key, ...this.sliderParts(key, span, () => Number(this.value(key)), (value) => this.set(key, value)));
  }

  /// For what no slider spans.
  number(key: string): HTMLElement {
    const p = this.parameters.get(key);
    const low = p?.minimum ?? -Infinity, high = p?.maximum ?? Infinity;
    const number = h('input', { type: 'number', id: this.prefix + key, step: p?.type === 'integer' ? 1 : 'any', 'aria-describedby': this.hint(key),
      ...(p?.minimum === undefined ? {} : { min: low }), ...(p?.maximum === undefined ? {} : { max: high }) });
    number.value = String(this.value(key) ?? '');
    number.addEventListener('input', () => {
      const value = Number(number.value);
      if (number.value === '' || !(value >= low && value <= high) || (p?.type === 'integer' && !Number.isInteger(value)))
        return number.setAttribute('aria-invalid', 'true');
      number.removeAttribute('aria-invalid');
      this.set(key, value);
    });
    return this.row(key, h('div', { class: 'head' }, h('label', { for: this.prefix + key }, title(key)), h('span', { class: 'value' }, number)));
  }

  text(key: string): HTMLElement {
    const input = h('input', { type: 'text', id: this.prefix + key, class: 'short', autocomplete: 'off', spellcheck: 'false', 'aria-describedby': this.hint(key) });
    input.value = String(this.value(key) ?? '');
    input.addEventListener('change', () => this.set(key, input.value.trim() || null));
    return this.row(key, h('div', { class: 'head' }, h('label', { for: this.prefix + key }, title(key)), input));
  }

  /// A flag, or a choice of on and off.
  toggle(key: string): HTMLElement {
    const words = this.parameters.get(key)?.choices;
    const box = h('input', { type: 'checkbox', id: this.prefix + key, 'aria-describedby': this.hint(key),
      change: () => this.set(key, words ? (box.checked ? 'on' : 'off') : box.checked) });
    box.checked = words ? this.value(key) === 'on' : this.value(key) === true;
    return this.row(key, h('label', { class: 'switch' }, box, h('span', {}, title(key))));
  }

  /// `absent` names the entry for no value, if there is one.
  select(key: string, values: string[], absent: string | null, name = title(key)): HTMLElement {
    const numbers = this.parameters.get(key)?.type === 'integer';
    const menu = h('select', { id: this.prefix + key, 'aria-describedby': this.hint(key),
      change: () => this.set(key, menu.value === '' ? null : numbers ? Number(menu.value) : menu.value) },
      absent === null ? null : h('option', { value: '' }, absent), ...values.map((value) => h('option', { value }, value)));
    menu.value = String(this.value(key) ?? '');
    return this.row(key, h('div', { class: 'head' }, h('label', { for: this.prefix + key }, name), menu));
  }

  choice(key: string): HTMLElement { return this.select(key, this.parameters.get(key)?.choices ?? [], null); }

  /// One of the files (or folders) of a folder; the list is read when the menu is opened.
  file(key: string, folder: () => string, without: () => string | null, kind: 'files' | 'folders' = 'files', words: string[] = []): HTMLElement {
    const row = this.select(key, words, words.length > 0 ? null : 'none');
    const menu = row.querySelector('select') as HTMLSelectElement;
    const chosen = String(this.store()[key] ?? '');
    if (chosen && !words.includes(chosen)) {
      menu.append(h('option', { value: chosen }, chosen));
      menu.value = chosen;
    }
    menu.addEventListener('focus', async () => {
      const at = folder(), listing = await get<Listing>('/api/files', { folder: at }).catch(() => null);
      const known = new Set([...menu.options].map((option) => option.value));
      const names = kind === 'files' ? listing?.files.map((file) => file.name) : listing?.folders;
      for (const own of names ?? []) {
        const name = at ? `${at}/${own}` : own;
        if (!known.has(name) && name !== without()) menu.append(h('option', { value: name }, own));
      }
    });
    return row;
  }

  private hint(key: string): string { return `hint-${this.prefix}${key}`; }
}

/// What is seldom wanted; open when something in it is set.
export function more(controls: Controls, keys: string[], ...rows: HTMLElement[]): HTMLElement {
  const details = h('details', {}, h('summary', {}, 'More'), ...rows);
  details.open = controls.isSet(keys);
  return details;
}
