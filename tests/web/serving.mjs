// A server of its own for a test, and a way to count what holds.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

export const environment = { ...process.env, OMP_WAIT_POLICY: 'PASSIVE', LC_ALL: 'C.UTF-8' };

export class Checks {
  count = 0;
  failures = 0;
  that(what, holds, more = '') {
    ++this.count;
    if (holds) return;
    ++this.failures;
    console.log(`FAILED: ${what}${more === '' ? '' : `\n  ${more}`}`);
  }
  finish() {
    console.log(`${this.count} checks, ${this.failures} failed`);
    process.exitCode = this.failures === 0 && this.count > 0 ? 0 : 1;
  }
}

export function workFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'limpid-web-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export function limpid(program, args, cwd) {
  return execFileSync(program, args, { cwd, env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
}

/// A command line as the page spells it.
export function shell(program, command, cwd) {
  return execFileSync('sh', ['-c', command], { cwd, env: { ...environment, PATH: `${dirname(program)}:${process.env.PATH}` }, stdio: 'pipe' });
}

const began = Date.now();
export const step = (name) => console.log(`${((Date.now() - began) / 1000).toFixed(1)} s ${name}`);

/// Resolves to {url, process, ended} once the server is ready.
export function serve(program, folder, more = []) {
  const child = spawn(program, ['serve', folder, '--port', '0', '--json', ...more],
                      { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
  process.on('exit', () => child.kill('SIGKILL'));
  const ended = new Promise((resolve) => child.on('exit', (code, signal) => resolve({ code, signal })));
  return new Promise((resolve, reject) => {
    let text = '', errors = '';
    child.stderr.on('data', (data) => { errors += data; });
    child.stdout.on('data', (data) => {
      text += data;
      try {
        resolve({ ...JSON.parse(text), process: child, ended, errors: () => errors });
      } catch {
        // not all of it yet
      }
    });
    void ended.then(({ code }) => reject(new Error(`limpid serve ended with ${code}: ${errors}`)));
  });
}

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
