// Whether a page stays as it is: loads and closes a model many times, then writes for as long as it is told to, and
// measures the memory of the browser's processes meanwhile.
//
//   npm run build && node scripts/bench/soak.js --cycles 1000 --minutes 120
//
// --unpaced 0.15 writes as fast as it can in that share of each minute and at a reader's pace in the rest, which leaves
// the machine to others.
//
// A line of JSON for each measurement; the status is 1 if memory grew. Chromium on Linux, whose processes tell what they use.
import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { serve } from './server.js';

const { values } = parseArgs({
  options: {
    cycles: { type: 'string', default: '1000' },
    minutes: { type: 'string', default: '120' },
    unpaced: { type: 'string', default: '1' },
    model: { type: 'string', default: 'models/tinystories-3m5.gguf' },
  },
});
const [cycles, minutes] = [Number(values.cycles), Number(values.minutes)];
const kMeasurements = 20; // of each part
const kMostGrowth = 0.05; // between the first quarter, when compilers and caches are done, and the end

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const server = await serve({ dist: path('../../dist'), page: path('page') }, [values.model]);

const browser = await chromium.launch({
  executablePath: process.env.TERN_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
});
const tab = await browser.newPage();
tab.on('pageerror', (error) => stop(error));
const [ofBrowser, ofTab] = [await browser.newBrowserCDPSession(), await tab.context().newCDPSession(tab)];
await tab.goto(`${server.origin}/page/soak.html`);
await tab.waitForFunction('window.ready');

/** Bytes that the renderers have in memory of their own, after their garbage is collected. */
async function measure() {
  await ofTab.send('HeapProfiler.collectGarbage');
  const { processInfo } = await ofBrowser.send('SystemInfo.getProcessInfo');
  const own = ({ id }) => /^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${id}/status`, 'utf8'))?.[1] ?? 0;
  const kilobytes = processInfo
    .filter(({ type }) => type === 'renderer')
    .reduce((sum, each) => sum + Number(own(each)), 0);
  const { metrics } = await ofTab.send('Performance.getMetrics');
  const heap = metrics.find(({ name }) => name === 'JSHeapUsedSize')?.value ?? 0;
  return { megabytes: kilobytes / 1000, heap: heap / 1e6 };
}

/** Takes measurements while `step` goes on; whether the memory stayed what it was. */
async function watch(what, step) {
  const seen = [];
  for (let i = 1; i <= kMeasurements; i++) {
    const done = await step(i);
    const found = await measure();
    seen.push(found.megabytes);
    console.log(JSON.stringify({ what, ...done, ...found, seconds: Math.round(performance.now() / 1000) }));
  }
  const most = (part) => Math.max(...part);
  const [before, after] = [most(seen.slice(0, kMeasurements / 4)), most(seen.slice(-kMeasurements / 4))];
  const isFlat = after <= before * (1 + kMostGrowth);
  console.log(JSON.stringify({ what, before, after, isFlat }));
  return isFlat;
}

async function stop(error) {
  console.error(error);
  process.exitCode = 1;
  await close();
}

async function close() {
  await browser.close();
  await server.close();
}

await ofTab.send('Performance.enable');
let isFlat = true;
if (cycles > 0) {
  isFlat &&= await watch('load and close', async (i) => {
    await tab.evaluate(`cycle(${Math.ceil(cycles / kMeasurements)})`);
    return { cycles: i * Math.ceil(cycles / kMeasurements) };
  });
}
if (minutes > 0) {
  await tab.evaluate(`void write(${Number(values.unpaced)})`);
  const isSo = await watch('write', async () => {
    await new Promise((resolve) => setTimeout(resolve, (minutes * 60_000) / kMeasurements));
    return { bytes: await tab.evaluate('written()') };
  });
  isFlat = isSo && isFlat;
}
await close();
if (!isFlat) process.exitCode = 1;
