// What the server of the page must bear: requests of other pages, names that lead elsewhere,
// nonsense, and many at a time. Usage: node routes_test.mjs LIMPID
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';

import { Checks, limpid, pause, serve, workFolder } from './serving.mjs';

const program = process.argv[2];
const checks = new Checks();
const work = workFolder();
const folder = join(work, 'frames');
mkdirSync(join(folder, 'sub'), { recursive: true });
mkdirSync(join(work, 'outside'));
limpid(program, ['simulate', '--width', '300', '--height', '256', '--star-count', '120', '-o', join(folder, 'small.fits')]);
limpid(program, ['convert', join(folder, 'small.fits'), join(work, 'outside', 'secret.fits')]);
limpid(program, ['convert', join(folder, 'small.fits'), join(folder, 'sub', 'é ü.tif')]);
limpid(program, ['convert', join(folder, 'small.fits'), join(folder, '.hidden.fits')]);
symlinkSync('../outside/secret.fits', join(folder, 'link.fits'));
symlinkSync('../outside', join(folder, 'way-out'));
symlinkSync('/', join(folder, 'root'));
symlinkSync('loop.fits', join(folder, 'loop.fits'));
execFileSync('mkfifo', [join(folder, 'pipe.fits')]);
writeFileSync(join(folder, 'bad.fits'), 'SIMPLE  =                    T'.padEnd(2880));

let server = await serve(program, folder, ['--max-upload', '1', '--threads', '1']);
const base = new URL(server.url);

/// One request, whatever it is made of: {status, body, headers}. Nothing is normalised on the way.
function ask(path, { method = 'GET', headers = {}, body, url = base } = {}) {
  return new Promise((resolve) => {
    const request = http.request({ host: url.hostname.replace(/[[\]]/g, ''), port: url.port, path, method,
      headers: { Host: url.host, ...headers }, agent: false, timeout: 20000 }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts).toString() }));
      response.on('error', () => resolve({ status: 0, body: '', headers: {} }));
    });
    request.on('timeout', () => request.destroy());
    request.on('error', (error) => resolve({ status: 0, body: String(error), headers: {} }));
    if (body !== undefined) request.write(body);
    request.end();
  });
}
const json = { 'Content-Type': 'application/json' };
const post = (path, body, headers = {}) => ask(path, { method: 'POST', headers: { ...json, ...headers }, body: typeof body === 'string' ? body : JSON.stringify(body) });
const refused = (answer) => answer.status >= 400 && answer.status < 500;

// ---- the page, and who may have it ----

const front = await ask('/');
checks.that('the page is served', front.status === 200 && front.body.includes('<title>limpid</title>'));
const policy = front.headers['content-security-policy'] ?? '';
checks.that('scripts come from the page itself alone', policy.includes("default-src 'none'") && policy.includes("script-src 'self'") && !policy.includes('unsafe'), policy);
checks.that('no other page may frame it', policy.includes("frame-ancestors 'none'"));
for (const script of front.body.matchAll(/(?:src|href)="(\/[^"]+)"/g))
  checks.that(`${script[1]} is served`, (await ask(script[1])).status === 200);

for (const host of ['evil.example', `evil.example:${base.port}`, '127.0.0.1', `127.0.0.1:${+base.port + 1}`, ' ', `localhost.evil.example:${base.port}`])
  checks.that(`host "${host}" is refused`, refused(await ask('/api/state', { headers: { Host: host } })));
checks.that('localhost is served', (await ask('/api/state', { headers: { Host: `localhost:${base.port}` } })).status === 200);
for (const origin of ['http://evil.example', 'null', `https://${base.host}`, `http://${base.hostname}`])
  checks.that(`origin "${origin}" is refused`, (await post('/api/close', {}, { Origin: origin })).status === 403);
checks.that('its own origin is served', (await post('/api/close', {}, { Origin: base.origin })).status === 200);
for (const site of ['cross-site', 'same-site'])
  checks.that(`pictures on ${site} pages are refused`, (await ask('/api/state', { headers: { 'Sec-Fetch-Site': site } })).status === 403);
for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', ''])
  checks.that(`a form of type "${type}" is refused`, refused(await ask('/api/close', { method: 'POST', headers: type ? { 'Content-Type': type } : {}, body: '{}' })));

// ---- nothing outside the folder ----

const escapes = ['../outside/secret.fits', 'sub/../../outside/secret.fits', join(work, 'outside', 'secret.fits'), '/etc/passwd',
  'link.fits', 'way-out/secret.fits', 'loop.fits', 'pipe.fits', `root${work}/outside/secret.fits`, '..', '.', './small.fits', 'sub//../small.fits', '.hidden.fits',
  '..\\outside\\secret.fits', '%2e%2e/outside/secret.fits', '..%2foutside%2fsecret.fits', 'small.fits\u0000.png', '\u0000', '~/x.fits',
  'file:///etc/passwd', 'small.fits/..', 'x'.repeat(5000), '-', '', '\udc80'];
for (const name of escapes) {
  const answer = await post('/api/open', { name });
  checks.that(`open "${name.slice(0, 40)}" is refused`, refused(answer), `${answer.status} ${answer.body.slice(0, 120)}`);
  if (name !== '') {
    const listed = await ask(`/api/files?folder=${encodeURIComponent(name.toWellFormed?.() ?? 'x')}`);
    checks.that(`list "${name.slice(0, 40)}" is refused`, refused(listed), listed.body.slice(0, 200));
  }
}
for (const path of ['/../../../../etc/passwd', '/%2e%2e/%2e%2e/etc/passwd', '/assets/../../../limpid', '/assets/%2e%2e%2f%2e%2e%2flimpid', '//etc/passwd', '/.git/config', '/frames/small.fits', '/small.fits'])
  checks.that(`GET ${path} is refused`, refused(await ask(path)));
const listing = JSON.parse((await ask('/api/files?folder=')).body);
checks.that('links that lead outside and hidden files are not listed',
  listing.files.map((f) => f.name).join() === 'bad.fits,small.fits' && listing.folders.join() === 'sub', JSON.stringify(listing));
checks.that('a name in UTF-8 is opened', (await post('/api/open', { name: 'sub/é ü.tif' })).status === 200);
const bad = await post('/api/open', { name: 'bad.fits' });
checks.that('a bad file is told of in one line', bad.status === 422 && /bad\.fits/.test(bad.body) && !JSON.parse(bad.body).error.includes('\n'), bad.body);
checks.that('the frame before it stays open', JSON.parse((await ask('/api/state')).body).frame?.name === 'sub/é ü.tif');

// ---- dropped files ----

const upload = (name, body, headers = {}) => ask(`/api/upload?name=${encodeURIComponent(name)}`, { method: 'POST',
  headers: { 'Content-Type': 'application/octet-stream', 'Content-Length': Buffer.byteLength(body), ...headers }, body });
for (const name of ['../x.fits', 'a/b.fits', '.x.fits', 'x.exe', '', 'x', '..', 'x.fits/'])
  checks.that(`upload as "${name}" is refused`, refused(await upload(name, 'x')));
checks.that('an upload that is no image is refused', (await upload('nonsense.fits', 'nonsense')).status === 422);
checks.that('a large upload is refused before it is sent', (await upload('large.fits', '', { 'Content-Length': 3 << 20 })).status === 413);
checks.that('an upload without a length is refused', refused(await ask('/api/upload?name=x.fits', { method: 'POST', headers: { 'Content-Type': 'application/octet-stream', 'Transfer-Encoding': 'chunked' }, body: 'x'.repeat(100) })));
await new Promise((resolve) => {
  const socket = net.connect(+base.port, base.hostname, () => {
    socket.write(`POST /api/upload?name=half.fits HTTP/1.1\r\nHost: ${base.host}\r\nContent-Type: application/octet-stream\r\nContent-Length: 9999\r\n\r\nhalf`);
    setTimeout(() => { socket.destroy(); resolve(); }, 200);
  });
});
await pause(300);
checks.that('nothing of a refused or broken upload stays', !readdirSync(folder).some((name) => /upload|nonsense|half|large/.test(name)), readdirSync(folder).join());

// ---- requests that make no sense ----

await post('/api/open', { name: 'small.fits' });
const layer = JSON.parse((await ask('/api/state')).body).frame.id;
const picture = (q) => `/api/picture.png?${new URLSearchParams({ layer, level: 0, x: 0, y: 0, w: 64, h: 64, ...q })}`;
checks.that('a picture is a PNG', (await ask(picture({}))).headers['content-type'] === 'image/png');
for (const q of [{ level: -1 }, { level: 99 }, { x: -1 }, { x: 1e9 }, { w: 0 }, { w: 4096 }, { h: 'x' }, { sky: 'nan' }, { sky: 7 }, { sky: '1e999' }, { layer: 'before-1' }, { layer: '../x' }, { x: '99999999999999999999' }])
  checks.that(`picture ${JSON.stringify(q)} is refused`, refused(await ask(picture(q))));
const region = [0, 0, 64, 64];
for (const body of ['', '{', '[]', 'null', '"x"', '{"options":[]}', '{"options":{"sharpen-stars":5}}', '{"options":{"sharpen-stars":"0.3"}}', '{"options":{"no-such":1}}',
  '{"options":{"output":"/tmp/x"}}', '{"options":{"trust-map":"x.fits"}}', '{"options":{"ai":"/etc/passwd"}}', '{"options":{"mask":"../outside/secret.fits"}}', '{"options":{"psf":"wide"}}',
  '{"options":{"psf":99}}', '{"options":{"device":"cpu; rm -rf"}}', '{"options":{"tile":1e300}}', '{"options":{"correct-only":"yes"}}', `{"options":${'['.repeat(20000)}`, 'x'.repeat(70000)]) {
  const whole = body.startsWith('{"options":{') ? JSON.stringify({ region, ...JSON.parse(body) }) : body;
  for (const route of ['/api/preview', '/api/run'])
    checks.that(`${route} with ${body.slice(0, 50)} is refused`, refused(await post(route, whole)), whole.slice(0, 80));
}
for (const options of [{ 'control-points': 3 }, { order: 4 }, { mode: 'add' }, { mask: '../outside/secret.fits' }, { mask: '/etc/passwd' }, { model: 'x.fits' }, { preview: '/tmp/x.png' },
  { points: '/etc/passwd' }, { refine: true }, { output: 'x.fits' }, { 'sharpen-stars': 0.2 }, { dither: 'yes' }, { alpha: '5' }, { points: { points: [] } },
  { points: { points: Array(5).fill({ x: 1, y: 1 }), correction: { columns: 1e9, rows: 1e9, values: [] } } }, []]) {
  for (const route of ['/api/fit', '/api/run', '/api/command'])
    checks.that(`${route} of the sky with ${JSON.stringify(options)} is refused`, refused(await post(route, { command: 'background', name: 'x.fits', options })));
}
for (const change of [{ frames: ['small.fits'] }, { frames: [] }, { frames: 'small.fits' }, { frames: ['small.fits', '../outside/secret.fits'] }, { frames: ['small.fits', 'link.fits'] }, { frames: ['small.fits', 3] },
  { frames: ['small.fits', '/etc/passwd'] }, { frames: Array(3000).fill('small.fits') }, { name: '../x.fits' }, { name: 'small.fits', overwrite: true }, { name: 'x.exe' }, { name: '' }, { name: 7 },
  { options: { seed: '/etc/passwd' } }, { options: { seed: '../outside/secret.fits' } }, { options: { 'rejection-masks': '..' } }, { options: { 'psf-dir': '/' } }, { options: { 'psf-dir': 'way-out' } },
  { options: { checkpoint: 'x' } }, { options: { 'save-iterations': '/tmp/x' } }, { options: { report: 'x.json' } }, { options: { memory: 'lots' } }, { options: { 'super-resolution': 9 } }, { options: { resume: true } }]) {
  const request = { command: 'mfdeconv', frames: ['small.fits', 'sub/é ü.tif'], name: 'x.fits', options: {}, ...change };
  for (const route of ['/api/combine', '/api/command'])
    if (!(route === '/api/command' && request.name === 'x.exe')) checks.that(`${route} with ${JSON.stringify(change).slice(0, 60)} is refused`, refused(await post(route, request)));
}
checks.that('no job was begun by any of these', JSON.parse((await ask('/api/state')).body).job === null);
for (const path of ['/api/sky', '/api/combination', '/api/mask.png?layer=x', '/api/schema?command=serve', '/api/schema?command=../x'])
  checks.that(`${path} is refused while there is none`, refused(await ask(path)));
checks.that('a sky is fitted', (await post('/api/fit', { options: {} })).status === 200);
const sky = JSON.parse((await ask('/api/sky')).body);
for (const layer of [sky.id, `model-${sky.id}`])
  checks.that(`${layer} is a PNG`, (await ask(`/api/picture.png?layer=${layer}&level=0&x=0&y=0&w=64&h=64`)).headers['content-type'] === 'image/png');
checks.that('so is its mask', (await ask(`/api/mask.png?layer=${sky.id}`)).headers['content-type'] === 'image/png');
for (const q of ['level=99&x=0&y=0&w=9&h=9', 'level=0&x=9999&y=0&w=9&h=9', 'level=0&x=0&y=0&w=2000&h=9'])
  checks.that(`the sky at ${q} is refused`, refused(await ask(`/api/picture.png?layer=${sky.id}&${q}`)));
for (const [what, name] of [['points', '../x.json'], ['points', 'x.fits'], ['model', 'small.fits'], ['model', '/tmp/x.fits'], ['everything', 'x.fits']])
  checks.that(`the ${what} of the sky as ${name} is refused`, refused(await post('/api/save', { what, name })));
for (const where of [[0, 0, 0, 0], [-1, 0, 9, 9], [0, 0, 9999, 9], [299, 0, 2, 2], [0, 0, 9], 'all', [0.5, 0, 9, 9], [0, 0, 2147483647, 2147483647]])
  checks.that(`a preview of ${JSON.stringify(where)} is refused`, refused(await post('/api/preview', { options: {}, region: where })));
checks.that('nothing is saved without a result', (await post('/api/save', { name: 'x.fits' })).status === 404);
for (const method of ['PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE'])
  checks.that(`${method} is refused`, refused(await ask('/api/state', { method })) || (await ask('/api/state', { method })).status === 0);

const raw = (text) => new Promise((resolve) => {
  const socket = net.connect(+base.port, base.hostname, () => socket.write(text));
  let got = '';
  socket.on('data', (data) => { got += data.toString('latin1'); });
  socket.on('close', () => resolve(got));
  socket.on('error', () => resolve(got));
  setTimeout(() => socket.destroy(), 700);
});
for (const text of ['\r\n\r\n', 'GET / HTTP/1.1\r\n\r\n', 'GET / HTTP/1.1\r\nHost:\r\n\r\n', 'GET\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n', `GET /${'a'.repeat(20000)} HTTP/1.1\r\nHost: ${base.host}\r\n\r\n`, `GET / HTTP/1.1\r\n${'X: y\r\n'.repeat(3000)}\r\n`,
  `POST /api/run HTTP/1.1\r\nHost: ${base.host}\r\nContent-Type: application/json\r\nContent-Length: -5\r\n\r\n{}`, 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', `GET / HTTP/1.1\r\nHost: ${base.host}\r\nHost: evil.example\r\n\r\n`, '\x16\x03\x01\x02\x00']) {
  const got = await raw(text);
  checks.that(`"${text.slice(0, 30).replace(/[^ -~]/g, '.')}" gets no page`, !got.startsWith('HTTP/1.1 200'), got.slice(0, 60));
}
// a sequence that is the same each time: xorshift of a fixed seed
let seed = 88172645;
const random = (n) => { seed ^= seed << 13; seed ^= seed >>> 17; seed ^= seed << 5; return (seed >>> 0) % n; };
const routes = ['state', 'files', 'pixel', 'picture.png', 'histogram', 'open', 'preview', 'save', 'command', 'measurement', 'report', 'sky', 'combination', 'fit', 'combine', 'mask.png', 'discard', 'upload', 'nothing'];
const pieces = ['name', 'layer', layer, '..', '%', '%00', '%2e', '&', '=', '0', '-1', '1e9', 'ü', '"', '{', '}', '[', ':', 'null', 'x', '/', '?', '#', 'region', 'options'];
let odd = 0;
for (let i = 0; i < 400; ++i) {
  const text = Array.from({ length: random(8) }, () => pieces[random(pieces.length)]).join('');
  const path = `/api/${routes[random(routes.length)]}`;
  const answer = random(2) === 0 ? await ask(encodeURI(`${path}?${text}`).replaceAll('%25', '%')) : await post(path, text);
  if (answer.status === 0 || answer.status >= 500) {
    ++odd;
    console.log(`  ${path} ${text}: ${answer.status} ${answer.body.slice(0, 100)}`);
  }
}
checks.that('400 random requests get answers that blame the request', odd === 0, `${odd} did not`);

// ---- many at a time ----

const start = Date.now();
const many = await Promise.all(Array.from({ length: 200 }, (_, i) => (i % 4 === 0 ? ask('/api/state') : ask(picture({ x: (i * 7) % 200, sky: (0.1 + (i % 50) / 100).toFixed(2) })))));
checks.that('200 requests at a time are all answered', many.every((answer) => answer.status === 200), many.map((a) => a.status).join(' '));
console.log(`200 parallel requests: ${Date.now() - start} ms`);
const listeners = [];
for (let i = 0; i < 24; ++i) {
  listeners.push(await new Promise((resolve) => {
    const request = http.get({ host: base.hostname, port: base.port, path: '/api/events', headers: { Host: base.host }, agent: false }, (response) => {
      response.on('error', () => {});
      resolve({ request, status: response.statusCode });
    });
    request.on('error', () => resolve({ request, status: 0 }));
  }));
}
checks.that('event streams are bounded', listeners.filter((l) => l.status === 503).length === 8, listeners.map((l) => l.status).join(' '));
for (const { request } of listeners) request.destroy();
await pause(2600);  // a server learns of closed pages when it next writes
const again = await Promise.all(Array.from({ length: 10 }, () => new Promise((resolve) => {
  const request = http.get({ host: base.hostname, port: base.port, path: '/api/events', headers: { Host: base.host }, agent: false }, (response) => {
    response.once('data', (data) => { resolve(String(data).startsWith('data: {') && response.statusCode === 200); request.destroy(); });
    response.on('error', () => {});
  });
  request.on('error', () => resolve(false));
})));
checks.that('closed pages free their streams', again.every(Boolean));
const previews = await Promise.all(Array.from({ length: 12 }, (_, i) => post('/api/preview', { options: { 'sharpen-stars': (i + 1) / 20 }, region })));
checks.that('of many previews at once the newest is made', previews.filter((p) => p.status === 200).length >= 1 && previews.every((p) => p.status === 200 || p.status === 409), previews.map((p) => p.status).join(' '));
checks.that('the server is alive', (await ask('/api/state')).status === 200 && server.process.exitCode === null);

// ---- a large frame is seen before it is read ----

{
  const [wide, high] = [4200, 3300];  // 41.6 million samples
  const row = Buffer.alloc(4 * wide);
  for (let x = 0; x < wide; ++x) row.writeFloatBE(0.1 + 0.01 * Math.sin(x * x), 4 * x);
  const cards = [['SIMPLE', 'T'], ['BITPIX', -32], ['NAXIS', 3], ['NAXIS1', wide], ['NAXIS2', high], ['NAXIS3', 3]]
    .map(([key, value]) => `${key.padEnd(8)}= ${String(value).padStart(20)}`.padEnd(80));
  writeFileSync(join(folder, 'large.fits'), Buffer.concat([Buffer.from([...cards, 'END'].join('').padEnd(2880)),
    ...Array(3 * high).fill(row), Buffer.alloc((2880 - (4 * 3 * wide * high) % 2880) % 2880)]));
  const opened = async (name) => JSON.parse((await post('/api/open', { name })).body);
  const glance = (await opened('large.fits')).frame;
  checks.that('a glance comes first', glance.loading === true && glance.width === wide && glance.height === high && /^glance-/.test(glance.id), JSON.stringify(glance));
  for (const level of [0, 1, glance.levels - 1]) {
    const seen = await ask(`/api/picture.png?layer=${glance.id}&level=${level}&x=0&y=0&w=512&h=512&sky=0.25`);
    checks.that(`it has a picture at level ${level}`, seen.status === 200 || seen.status === 404 && JSON.parse((await ask('/api/state')).body).frame.loading === false, `${seen.status} ${seen.body.slice(0, 80)}`);
  }
  const preview = await post('/api/preview', { options: { 'no-stars': true, psf: 3 }, region: [8, 8, 64, 64] });
  checks.that('what needs the pixels waits for them', preview.status === 200, preview.body);
  const whole = JSON.parse((await ask('/api/state')).body).frame;
  checks.that('then the frame is there', whole.loading === false && whole.id !== glance.id && whole.levels === glance.levels, JSON.stringify(whole));
  checks.that('and the glance is gone', (await ask(`/api/picture.png?layer=${glance.id}&level=0&x=0&y=0&w=64&h=64`)).status === 404);
  await opened('large.fits');
  checks.that('another frame may be opened meanwhile', (await opened('small.fits')).frame.name === 'small.fits');
  await pause(1500);
  checks.that('and stays', JSON.parse((await ask('/api/state')).body).frame.name === 'small.fits');
}

server.process.kill('SIGINT');
const late = Date.now(), end = await server.ended;
checks.that('Ctrl-C ends it at once', end.code === 0 && Date.now() - late < 5000, `${JSON.stringify(end)} after ${Date.now() - late} ms`);

// ---- an address that others can reach ----

const address = Object.values(networkInterfaces()).flat().find((a) => a && a.family === 'IPv4' && !a.internal)?.address ?? '0.0.0.0';
server = await serve(program, folder, ['--bind', address]);
const open = new URL(server.url);
const token = open.searchParams.get('token') ?? '';
checks.that('it warns', /token/.test(server.errors()));
checks.that('the token is long', /^[0-9a-f]{32}$/.test(token), token);
const other = { url: open };
for (const path of ['/', '/api/state', '/api/files?folder=', `/?token=${token.slice(1)}0`, '/?token='])
  checks.that(`${path.slice(0, 20)} without the token is refused`, (await ask(path, other)).status === 401);
const entry = await ask(`/?token=${token}`, other);
const cookie = String(entry.headers['set-cookie'] ?? '');
checks.that('the token becomes a cookie that scripts and other pages do not get', entry.status === 303 && /HttpOnly/.test(cookie) && /SameSite=Strict/.test(cookie), cookie);
checks.that('with the cookie the page is served', (await ask('/api/state', { ...other, headers: { Cookie: cookie.split(';')[0] } })).status === 200);
checks.that('but not on other pages', (await ask('/api/state', { ...other, headers: { Cookie: cookie.split(';')[0], Origin: 'http://evil.example' } })).status === 403);
checks.that('with the token as bearer, too', (await ask('/api/state', { ...other, headers: { Authorization: `Bearer ${token}` } })).status === 200);
server.process.kill('SIGTERM');
await server.ended;
checks.finish();
process.exit();
