// Serves a built folder on loopback under a strict Content-Security-Policy, and remembers what a page did wrong.
import { createServer } from 'node:http';
import { readFile, stat } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';

const MIME = {
  '.css': 'text/css; charset=utf-8',
  '.gguf': 'application/octet-stream',
  '.html': 'text/html; charset=utf-8',
  '.ico': 'image/x-icon',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  '.wasm': 'application/wasm',
  '.webmanifest': 'application/manifest+json',
  '.woff2': 'font/woff2',
};

// Whatever a page tries beyond this is refused by the browser and reported to us, also a request to another origin.
export const POLICY = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self'",
  "connect-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "font-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'self'",
].join('; ');

// Runs before the page's own scripts, because WebKit's driver has no way to read the console.
export const PROBE = `
  window.__problems = [];
  const note = (text) => window.__problems.push(String(text));
  for (const level of ['error', 'warn', 'assert']) {
    const original = console[level];
    console[level] = (...parts) => { if (level !== 'assert' || !parts[0]) note('console.' + level + ': ' + parts.join(' ')); original.apply(console, parts); };
  }
  addEventListener('error', (event) => note(event.message || 'failed to load ' + (event.target.src || event.target.href)), true);
  addEventListener('unhandledrejection', (event) => note('unhandled rejection: ' + event.reason));
`;

// What a page needs to have shared memory, on every response, also those of workers' scripts.
const ISOLATION = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

/**
 * Serves `folder`; `files` maps further paths to contents; `isolated`: with the headers that isolate pages from other
 * origins; `policy`: another one, or null for a host that sends none; `open`: whoever asks may read what it sends.
 * Returns the origin, what was refused or missing, what was asked for, and close().
 */
export async function serve(folder, files = {}, { isolated = false, policy = POLICY, open = false } = {}) {
  const problems = [];
  const asked = [];
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    asked.push(path);
    const send = (status, type, body) => {
      response.writeHead(status, {
        'Content-Type': type,
        'Content-Length': Buffer.byteLength(body),
        ...(policy !== null && { 'Content-Security-Policy': `${policy}; report-uri /csp-report` }),
        ...(open && { 'Access-Control-Allow-Origin': '*' }),
        'Cache-Control': 'no-store',
        'X-Content-Type-Options': 'nosniff',
        ...(isolated && ISOLATION),
      });
      response.end(request.method === 'HEAD' ? undefined : body);
    };
    if (path === '/csp-report') {
      const parts = [];
      for await (const part of request) parts.push(part);
      problems.push(`refused by the Content-Security-Policy: ${Buffer.concat(parts)}`);
      return send(204, 'text/plain', '');
    }
    if (path === '/favicon.ico') return send(204, MIME['.ico'], ''); // browsers ask for it unasked
    if (path === '/probe.js') return send(200, MIME['.js'], PROBE);
    try {
      let body = files[path];
      let file = path;
      if (body === undefined) {
        file = join(folder, normalize(path));
        if ((await stat(file)).isDirectory()) file = join(file, 'index.html');
        body = await readFile(file);
      }
      if (extname(file) === '.html') {
        body = body.toString().replace(/<head>|<!doctype html>(?![^]*<head>)/i, '$&<script src="/probe.js"></script>');
      }
      return send(200, MIME[extname(file)] ?? 'application/octet-stream', body);
    } catch {
      problems.push(`not found: ${path}`);
      return send(404, 'text/plain', `no such file: ${path}\n`);
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    problems,
    asked,
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}
