import { defineConfig } from 'vite';

// The server sends `Content-Security-Policy: script-src 'self'`: nothing may be inlined.
export default defineConfig({
  base: '/',
  build: { outDir: process.env.LIMPID_PAGE_OUT ?? 'dist', emptyOutDir: true, assetsInlineLimit: 0,
           modulePreload: { polyfill: false }, target: 'es2022' },
  server: { proxy: { '/api': 'http://127.0.0.1:8417' } },
});
