// The long job of a panel: its button, or its progress; and the command line that does the same.
import { post, type State } from './api';
import { complain, duration, h, say, settled } from './dom';

export class JobBar {
  readonly element = h('div', { class: 'job' });

  /// `label` is that of the button, `ready` whether there is something to do; `done` stands below.
  constructor(private prefix: string, private label: () => string, private ready: () => boolean,
              private begin: () => void, private done: () => HTMLElement | null) {}

  show(state: State | null): void {
    const job = state?.job;
    if (job && (job.kind === 'run' || job.kind === 'combine')) {
      const words = `${job.stage}${job.seconds_left ? `, ${duration(job.seconds_left)} left` : ''}`;
      const known = this.element.querySelector('progress');
      if (known) {
        known.value = job.fraction;
        (this.element.querySelector('.muted') as HTMLElement).textContent = words;
        return;
      }
      this.element.replaceChildren(
        h('progress', { id: `${this.prefix}progress`, max: 1, value: job.fraction, 'aria-label': 'Progress' }),
        h('div', { class: 'line' }, h('span', { class: 'muted' }, words), h('span', { class: 'space' }),
          h('button', { type: 'button', id: `${this.prefix}cancel`, click: () => void post('/api/cancel').catch(complain) }, 'Cancel')));
      return;
    }
    const known = this.element.querySelector<HTMLButtonElement>(`#${this.prefix}apply`);
    const apply = known ?? h('button', { type: 'button', id: `${this.prefix}apply`, class: 'strong wide', click: () => this.begin() });
    apply.disabled = !this.ready();
    apply.textContent = this.label();
    const below = this.done();
    // the button stays the same element: who has just tabbed to it keeps the focus
    if (known) {
      while (known.nextSibling) known.nextSibling.remove();
      if (below) known.after(below);
    } else {
      this.element.replaceChildren(apply, below ?? '');
    }
  }
}

export class CommandBox {
  private code: HTMLElement;
  readonly element: HTMLElement;
  /// Asks for the line anew, once things are quiet.
  readonly renew = settled(150, () => void this.spell());

  private need: HTMLElement;

  /// `request` is what to ask of the server; null while there is nothing to do. `save` writes the file that the
  /// command reads, where it needs one that is not there yet.
  constructor(prefix: string, private request: () => unknown | null, private save: () => void = () => {}) {
    this.code = h('code', { id: `${prefix}command`, tabindex: 0 });
    this.need = h('div', { class: 'line', id: `${prefix}need`, hidden: true });
    this.element = h('details', { class: 'command' }, h('summary', {}, 'As command'), this.code, this.need,
      h('button', { type: 'button', id: `${prefix}copy`, click: () => void this.copy() }, 'Copy as command'));
  }

  private async spell(): Promise<void> {
    const request = this.request();
    this.need.hidden = true;
    try {
      const answer = request ? await post<{ command: string; needs?: string }>('/api/command', request) : { command: '' };
      this.code.textContent = answer.command;
      if (!answer.needs) return;
      this.need.hidden = false;
      this.need.replaceChildren(h('span', { class: 'notes' }, `It reads ${answer.needs}`), h('span', { class: 'space' }),
        h('button', { type: 'button', click: () => this.save() }, 'Save it…'));
    } catch (error) {
      this.code.textContent = error instanceof Error ? error.message : '';
    }
  }

  private async copy(): Promise<void> {
    await this.spell();
    try {
      await navigator.clipboard.writeText(this.code.textContent ?? '');
      say('Copied');
    } catch {
      getSelection()?.selectAllChildren(this.code);  // no clipboard without encryption: Ctrl-C does it
      say('Selected; copy it with Ctrl-C');
    }
  }
}
