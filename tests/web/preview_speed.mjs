// What an exact preview costs after each slider, without a page. Usage: node preview_speed.mjs LIMPID FRAME [WIDTH HEIGHT]
import { readFileSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';

import { serve } from './serving.mjs';

const [program, frame] = process.argv.slice(2, 4).map((word) => resolve(word));
const [wide, high] = process.argv.length > 5 ? process.argv.slice(4).map(Number) : [963, 759];
const server = await serve(program, dirname(frame));
const api = async (path, body) => {
  const answer = await (await fetch(new URL(path, server.url), {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) })).json();
  if (answer.error) throw new Error(answer.error);
  return answer;
};
/// Seconds that all threads of the server have worked.
const worked = () => {
  const fields = readFileSync(`/proc/${server.process.pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
};
const { width, height } = (await api('/api/open', { name: basename(frame) })).frame;
const [w, h] = [Math.min(wide, width), Math.min(high, height)];
const region = [(width - w) >> 1, (height - h) >> 1, w, h];
for (const [what, options] of [
  ['the first', {}], ['sharpen-stars .4', { 'sharpen-stars': 0.4 }], ['sharpen-stars .5', { 'sharpen-stars': 0.5 }],
  ['sharpen-stars .35', { 'sharpen-stars': 0.35 }], ['sharpen-nonstellar .5', { 'sharpen-stars': 0.35, 'sharpen-nonstellar': 0.5 }],
  ['adjust-halos .2', { 'adjust-halos': 0.2 }], ['tried before', { 'sharpen-stars': 0.35 }]]) {
  const start = performance.now(), before = worked();
  await api('/api/preview', { options, region });
  console.log(`${what.padEnd(24)} ${((performance.now() - start) / 1000).toFixed(2)} s, processors ${(worked() - before).toFixed(2)} s`);
}
server.process.kill('SIGINT');
await server.ended;
process.exit();
