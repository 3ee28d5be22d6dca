// Starts the three browsers behind one small interface: goto, evaluate, waitFor, problems, close.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

function findMiniBrowser() {
  for (const machine of readdirSync('/usr/lib')) {
    for (const version of ['4.1', '4.0']) {
      const path = `/usr/lib/${machine}/webkit2gtk-${version}/MiniBrowser`;
      if (existsSync(path)) return path;
    }
  }
  return '/usr/lib/webkit2gtk-4.1/MiniBrowser';
}

const executables = {
  chromium: process.env.TERN_CHROMIUM ?? '/usr/bin/chromium',
  firefox: process.env.TERN_FIREFOX ?? '/usr/bin/firefox-esr',
  webkit: process.env.TERN_WEBKIT ?? findMiniBrowser(),
};

/** False, or a sentence on what to install.  In CI a browser that is missing is a failure, not a reason to skip. */
export function missing(browser) {
  if (existsSync(executables[browser]) || process.env.CI) return false;
  return `SKIPPED: no ${browser} at ${executables[browser]}; run scripts/setup browsers`;
}

/** What each driver below returns, with the two things that every browser does the same way. */
class Browser {
  constructor({ goto, evaluate, close, problems = () => [], page }) {
    Object.assign(this, { goto, evaluate, close, page });
    this.ownProblems = problems;
  }

  /** The value of `expression` in the page as soon as it is truthy. */
  async waitFor(expression, milliseconds = 60_000) {
    const end = Date.now() + milliseconds;
    for (;;) {
      const value = await this.evaluate(expression);
      if (value) return value;
      if (Date.now() > end) {
        throw new Error(`still false after ${milliseconds} ms: ${expression}; ${(await this.problems()).join('; ')}`);
      }
      await sleep(50);
    }
  }

  /** What the page complained about: console errors and warnings, uncaught errors, requests to another origin. */
  async problems() {
    const inPage = await this.evaluate(`[
      ...(window.__problems ?? ['the probe of tests/browsers/server.js did not run']),
      ...performance.getEntriesByType('resource')
        .filter((entry) => new URL(entry.name).origin !== location.origin && !/^(blob|data):/.test(entry.name))
        .map((entry) => 'request to another origin: ' + entry.name),
    ]`);
    return [...inPage, ...this.ownProblems()];
  }
}

/** `extension`: the folder of one that it shall have; `without`: of the driver's own arguments. */
export async function openChromium({ viewport = { width: 1280, height: 800 }, extension, without = [] } = {}) {
  const { chromium } = await import('playwright-core');
  const options = {
    executablePath: executables.chromium,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
    ].concat(['--disable-component-update', '--disable-sync'], extension ? `--load-extension=${extension}` : []),
    ignoreDefaultArgs: [...without, ...(extension ? ['--disable-extensions'] : [])],
    ...(extension && { viewport }),
  };
  // Extensions are in the profile that the browser starts with only.
  const browser = extension ? await chromium.launchPersistentContext('', options) : await chromium.launch(options);
  const page = await browser.newPage(extension ? undefined : { viewport });
  const problems = [];
  // The browser's own console sees more than the page's probe: workers, and files that failed to load.
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) problems.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => problems.push(`uncaught: ${error.message}`));
  page.on('request', (request) => {
    const { origin, protocol } = new URL(request.url());
    if (
      !['blob:', 'data:'].includes(protocol) &&
      origin !== new URL(page.url()).origin &&
      !request.isNavigationRequest()
    ) {
      problems.push(`request to another origin: ${request.url()}`);
    }
  });
  return new Browser({
    goto: (url) => page.goto(url),
    evaluate: (expression) => page.evaluate(expression),
    close: () => browser.close(),
    problems: () => problems,
    page,
  });
}

export async function openFirefox() {
  const { default: puppeteer } = await import('puppeteer-core');
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: executables.firefox,
    headless: true,
  });
  const page = await browser.newPage();
  const problems = [];
  page.on('console', (message) => {
    if (['error', 'warn'].includes(message.type())) problems.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => problems.push(`uncaught: ${error.message}`));
  return new Browser({
    goto: (url) => page.goto(url),
    evaluate: (expression) => page.evaluate(expression),
    close: () => browser.close(),
    problems: () => problems,
    page,
  });
}

/** A port of the loopback interface that is free now. */
async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export async function openWebkit() {
  const { Builder, Capabilities } = await import('selenium-webdriver');
  const port = await freePort();
  // Its own process group, so that closing ends xvfb-run, the X server, the driver and the browser together.
  const processes = spawn('xvfb-run', ['-a', 'WebKitWebDriver', `--port=${port}`], {
    env: { ...process.env, WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1', WEBKIT_DISABLE_COMPOSITING_MODE: '1' },
    stdio: 'ignore',
    detached: true,
  });
  const failed = new Promise((_, reject) => processes.on('error', reject));
  const stop = () => {
    try {
      process.kill(-processes.pid, 'SIGTERM');
    } catch {
      // It has ended by itself.
    }
  };
  process.once('exit', stop);
  try {
    await Promise.race([answering(port), failed]);
    const capabilities = new Capabilities({
      browserName: 'MiniBrowser',
      'webkitgtk:browserOptions': { binary: executables.webkit, args: ['--automation'] },
    });
    const driver = await new Builder().usingServer(`http://127.0.0.1:${port}`).withCapabilities(capabilities).build();
    return new Browser({
      goto: (url) => driver.get(url),
      evaluate: (expression) => driver.executeScript(`return ${expression}`),
      close: async () => {
        await driver.quit();
        stop();
      },
      page: driver,
    });
  } catch (error) {
    stop();
    throw error;
  }
}

async function answering(port) {
  for (const end = Date.now() + 30_000; ; await sleep(100)) {
    try {
      if ((await fetch(`http://127.0.0.1:${port}/status`)).ok) return;
    } catch {
      if (Date.now() > end) throw new Error('WebKitWebDriver did not start within 30 s');
    }
  }
}

export const open = { chromium: openChromium, firefox: openFirefox, webkit: openWebkit };
