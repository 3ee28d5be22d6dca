// Runs programs for the bench, and reads from /proc what memory browsers have.
import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';

/** What a program printed; an Error with its last words when it failed. */
export function run(program, words, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    const out = [];
    const complaints = [];
    child.stdout.on('data', (data) => out.push(data));
    child.stderr.on('data', (data) => complaints.push(data));
    child.on('error', (error) => reject(new Error(`${program} could not be started: ${error.message}`)));
    child.on('close', (code) => {
      if (code === 0) return resolve(Buffer.concat(out).toString());
      const last = Buffer.concat(complaints).toString().trim().split('\n').slice(-5).join('\n');
      return reject(new Error(`${program} ${words.slice(0, 2).join(' ')} ended with status ${code}: ${last}`));
    });
  });
}

/** Peak memory in bytes of the largest process below this one, as Linux counts it; 0 where there is no /proc. */
export function largestDescendant() {
  const parents = new Map();
  const peaks = new Map();
  try {
    for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
      try {
        const status = readFileSync(`/proc/${name}/status`, 'utf8');
        parents.set(Number(name), Number(/^PPid:\s+(\d+)/m.exec(status)?.[1]));
        peaks.set(Number(name), 1024 * Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0));
      } catch {
        // It has ended meanwhile.
      }
    }
  } catch {
    return 0;
  }
  const isBelow = (pid) => pid > 1 && (parents.get(pid) === process.pid || isBelow(parents.get(pid) ?? 0));
  return Math.max(0, ...[...peaks].filter(([pid]) => isBelow(pid)).map(([, peak]) => peak));
}

/** The name of the processor and how many there are. */
export function machine() {
  let processor = process.arch;
  try {
    processor = /^model name\s*:\s*(.+)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? processor;
  } catch {
    // Not Linux.
  }
  return { processor, system: `${process.platform} ${process.arch}` };
}

/** What could not be measured although it was asked for. */
export const leftOut = [];

/** Runs `work`; what fails is said in one line and remembered, and the bench goes on. */
export async function attempt(what, note, work) {
  try {
    return await work();
  } catch (error) {
    note(`${what}: left out: ${String(error.message).replaceAll('\n', ' ')}`);
    leftOut.push(what);
    return null;
  }
}
