// Choosing a frame: the folder as a list, or a file dropped on the page.
import { get, post, upload, type Listing, type State } from './api';
import { byId, bytes, complain, h, say } from './dom';

export class Files {
  private folder = '';

  constructor(private opened: (state: State) => void) {
    const dialog = byId<HTMLDialogElement>('files');
    dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
    const stage = document.body, drop = byId('drop');
    let depth = 0;
    const carries = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false;
    stage.addEventListener('dragenter', (event) => { if (carries(event)) { ++depth; drop.hidden = false; } });
    stage.addEventListener('dragleave', () => { if (--depth <= 0) { depth = 0; drop.hidden = true; } });
    stage.addEventListener('dragover', (event) => { if (carries(event)) event.preventDefault(); });
    stage.addEventListener('drop', (event) => {
      event.preventDefault();
      depth = 0;
      drop.hidden = true;
      const file = event.dataTransfer?.files[0];
      if (file) void this.take(file);
    });
  }

  async browse(): Promise<void> {
    const dialog = byId<HTMLDialogElement>('files');
    const list = h('div', { class: 'list' });
    const pick = h('input', { type: 'file', hidden: true, accept: '.fits,.fit,.fts,.fz,.gz,.xisf,.tif,.tiff,.png,.jpg,.jpeg' });
    pick.addEventListener('change', () => { const file = pick.files?.[0]; if (file) { dialog.close(); void this.take(file); } });
    dialog.replaceChildren(
      h('header', {}, h('h2', { id: 'files-title' }, 'Open'),
        h('button', { type: 'button', class: 'plain', 'aria-label': 'Close', click: () => dialog.close() }, '×')),
      list,
      h('footer', {}, h('button', { type: 'button', click: () => pick.click() }, 'From elsewhere…'),
        h('span', { class: 'muted' }, 'is copied into the folder'), pick));
    if (!dialog.open) dialog.showModal();
    await this.fill(list, () => dialog.close());
  }

  /// The folder as rows; a click opens.
  async fill(list: HTMLElement, chosen: () => void): Promise<void> {
    let listing: Listing;
    try {
      listing = await get<Listing>('/api/files', { folder: this.folder });
    } catch (error) {
      if (this.folder === '') return complain(error);
      this.folder = '';
      return this.fill(list, chosen);
    }
    const enter = (folder: string) => () => { this.folder = folder; void this.fill(list, chosen); };
    const join = (name: string) => (this.folder ? `${this.folder}/${name}` : name);
    const rows: HTMLElement[] = [];
    if (this.folder) {
      const up = this.folder.split('/').slice(0, -1).join('/');
      rows.push(h('button', { type: 'button', class: 'row folder', click: enter(up) }, h('span', {}, `‹ ${this.folder}`)));
    }
    for (const name of listing.folders)
      rows.push(h('button', { type: 'button', class: 'row folder', click: enter(join(name)) }, h('span', {}, `${name}/`)));
    for (const file of listing.files) {
      rows.push(h('button', { type: 'button', class: 'row', click: () => { chosen(); void this.open(join(file.name)); } },
        h('span', {}, file.name),
        h('span', { class: 'muted' }, bytes(file.bytes))));
    }
    if (listing.folders.length + listing.files.length === 0) rows.push(h('p', { class: 'muted' }, 'No FITS, XISF, TIFF, PNG or JPEG files here.'));
    list.replaceChildren(...rows);
    (list.firstElementChild as HTMLElement).focus();
  }

  async open(name: string): Promise<void> {
    byId('busy').hidden = false;
    let loading = false;
    try {
      const state = await post<State>('/api/open', { name });
      loading = state.frame?.loading ?? false;
      this.opened(state);
    } catch (error) {
      complain(error);
    } finally {
      if (!loading) byId('busy').hidden = true;
    }
  }

  private async take(file: File): Promise<void> {
    const copying = say(`Copying ${file.name}…`);
    try {
      const name = await upload(file);
      copying.remove();
      await this.open(name);
    } catch (error) {
      copying.remove();
      complain(error);
    }
  }
}
