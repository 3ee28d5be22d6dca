// What the bench writes: lines on standard output, and files that appear when they are whole.
import { renameSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';

/** Lines on standard output, all of them, or an Error: console.log keeps quiet about a full disk. */
export function say(text) {
  for (let rest = Buffer.from(`${text}\n`); rest.length > 0;) {
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      if (error.code !== 'EAGAIN') throw new Error(`standard output: ${error.message}`, { cause: error });
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10); // somebody reads slowly
    }
  }
}

/** Until the file is whole, an older one stays as it was. What is no regular file (a pipe, /dev/null) is written to. */
export function save(file, text) {
  const old = statSync(file, { throwIfNoEntry: false });
  const partial = !old || old.isFile() ? `${file}.${process.pid}.partial` : file;
  try {
    writeFileSync(partial, text);
    if (partial !== file) renameSync(partial, file);
  } catch (error) {
    if (partial !== file) rmSync(partial, { force: true });
    throw new Error(`${file}: ${error.message}`, { cause: error });
  }
}
