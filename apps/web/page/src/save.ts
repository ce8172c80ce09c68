// The result, its trust map, or the sky, as a file in the folder.
import { get, post, Refusal, type Parameter } from './api';
import { byId, bytes, h, inPageWords, say } from './dom';
import { remember, ui } from './store';

const endings: [string, string][] = [['.fits', 'FITS'], ['.xisf', 'XISF'], ['.tif', 'TIFF'], ['.png', 'PNG']];

const titles = { result: 'Save', trust: 'Save trust map', model: 'Save model of the sky', points: 'Save control points' };

/// `open`, if given, is offered for what was saved.
export async function saveDialog(name: string, what: keyof typeof titles, saved: (name: string) => void,
                                 open?: (name: string) => void): Promise<void> {
  const dialog = byId<HTMLDialogElement>('saving');
  const schema = await get<{ parameters: Parameter[] }>('/api/schema');
  const depths = schema.parameters.find((p) => p.name === '--depth')?.choices ?? ['as-input'];
  const input = h('input', { type: 'text', id: 'save-name', autocomplete: 'off', spellcheck: 'false', required: true });
  input.value = name;
  const format = h('select', { id: 'save-format' }, ...endings.map(([ending, title]) => h('option', { value: ending }, title)));
  const ofName = () => {
    const found = endings.find(([ending]) => input.value.toLowerCase().endsWith(ending));
    if (found) format.value = found[0];
  };
  ofName();
  input.addEventListener('input', ofName);
  format.addEventListener('change', () => { input.value = input.value.replace(/\.[a-z0-9]{1,5}$/i, '') + format.value; });
  const depth = h('select', { id: 'save-depth' }, ...depths.map((value) => h('option', { value },
    ({ 'as-input': 'as recorded', u8: '8 bit', u16: '16 bit', f32: '32 bit float' } as Record<string, string>)[value] ?? value)));
  depth.value = what === 'result' ? ui.depth : 'as-input';
  const overwrite = h('input', { type: 'checkbox', id: 'save-overwrite' });
  const problem = h('p', { class: 'problem', role: 'alert', id: 'save-problem' });
  const submit = async (event: Event) => {
    event.preventDefault();
    problem.textContent = '';
    button.disabled = true;
    try {
      const answer = await post<{ name: string; bytes: number }>('/api/save', {
        name: input.value.trim(), what, overwrite: overwrite.checked,
        options: depth.value === 'as-input' ? {} : { depth: depth.value } });
      if (what === 'result') {
        ui.depth = depth.value;
        remember();
      }
      dialog.close();
      const message = say(`Saved ${answer.name}, ${bytes(answer.bytes)}`, 'note', ...(open ? [
        h('button', { type: 'button', class: 'act', click: () => { message.remove(); open(answer.name); } }, 'Open it')] : []));
      saved(answer.name);
    } catch (error) {
      problem.textContent = inPageWords(error instanceof Refusal ? error.message : String(error));
    } finally {
      button.disabled = false;
    }
  };
  const button = h('button', { type: 'submit', class: 'strong', id: 'save-go' }, 'Save');
  dialog.replaceChildren(h('form', { submit },
    h('header', {}, h('h2', { id: 'saving-title' }, titles[what]),
      h('button', { type: 'button', class: 'plain', 'aria-label': 'Close', click: () => dialog.close() }, '×')),
    h('div', { class: 'fields' },
      h('label', { for: 'save-name' }, 'Name'), input,
      ...(what === 'points' ? [] : [h('label', { for: 'save-format' }, 'Format'), format]),
      ...(what !== 'result' ? [] : [h('label', { for: 'save-depth' }, 'Samples'), depth])),
    h('label', { class: 'switch' }, overwrite, h('span', {}, 'Replace a file of this name')),
    problem, h('footer', {}, h('span', { class: 'space' }), button)));
  dialog.showModal();
  input.focus();
  input.setSelectionRange(0, input.value.lastIndexOf('.'));
}
