// Where a page can keep files: folders of small files, each written whole or not at all.
// SPDX-License-Identifier: MIT

import { describe } from '../errors.js';

export type Bytes = Uint8Array<ArrayBuffer>;

/** The origin's private file system, its Cache API, or the memory of this page alone. */
export type PlaceName = 'opfs' | 'cache-api' | 'memory';

export interface Place {
  readonly name: PlaceName;
  folders(): Promise<string[]>;
  /** The names of the files in a folder; none where there is no such folder. */
  files(folder: string): Promise<string[]>;
  /** Null where there is no such file. */
  read(folder: string, name: string): Promise<Bytes | null>;
  /** Fails when the browser's quota is used up, among others. */
  write(folder: string, name: string, bytes: Bytes): Promise<void>;
  /** A file, or the whole folder. What is not there is removed already. */
  remove(folder: string, name?: string): Promise<void>;
}

const kOpen: Record<PlaceName, () => Promise<Place>> = { opfs, 'cache-api': cacheApi, memory };

/** The place of that name. Fails where the browser, or the kind of page, has none. */
export async function openPlace(name: PlaceName): Promise<Place> {
  return kOpen[name]();
}

/** The first that there is of those that outlive the page; or why there is none. */
export async function lastingPlace(): Promise<Place | string> {
  const why: string[] = [];
  for (const name of ['opfs', 'cache-api'] as const) {
    try {
      return await openPlace(name);
    } catch (error) {
      why.push(`${name}: ${describe(error)}`);
    }
  }
  return why.join('; ');
}

/** Every place that there is here. */
export async function allPlaces(): Promise<Place[]> {
  const found = await Promise.allSettled([opfs(), cacheApi(), memory()]);
  return found.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
}

const kName = 'ternlm-models'; // what is the package's among the files of the origin

async function opfs(): Promise<Place> {
  // Safari before 26 writes in workers only, with handles that a page cannot have.
  if (!('createWritable' in FileSystemFileHandle.prototype))
    throw new Error('this browser writes files in workers only');
  const origin = await navigator.storage.getDirectory();
  const root = await origin.getDirectoryHandle(kName, { create: true });
  const open = (folder: string): Promise<FileSystemDirectoryHandle | null> => orNull(root.getDirectoryHandle(folder));
  return {
    name: 'opfs',
    folders: () => keysOf(root),
    files: async (folder) => keysOf(await open(folder)),
    async read(folder, name) {
      const directory = await open(folder);
      const handle = directory && (await orNull(directory.getFileHandle(name)));
      return handle && new Uint8Array(await (await handle.getFile()).arrayBuffer());
    },
    async write(folder, name, bytes) {
      const directory = await root.getDirectoryHandle(folder, { create: true });
      const writable = await (await directory.getFileHandle(name, { create: true })).createWritable();
      try {
        await writable.write(bytes);
        await writable.close(); // from here on there is the new file, whole
      } catch (error) {
        await writable.abort().catch(() => undefined);
        throw error;
      }
    },
    async remove(folder, name) {
      const directory = name === undefined ? root : await open(folder);
      if (directory) await orNull(directory.removeEntry(name ?? folder, { recursive: true }));
    },
  };
}

async function keysOf(directory: FileSystemDirectoryHandle | null): Promise<string[]> {
  const names: string[] = [];
  if (directory) for await (const name of directory.keys()) names.push(name);
  return names;
}

async function orNull<T>(found: Promise<T>): Promise<T | null> {
  try {
    return await found;
  } catch (error) {
    if (error instanceof DOMException && error.name === 'NotFoundError') return null;
    throw error;
  }
}

async function cacheApi(): Promise<Place> {
  const prefix = `${kName}/`;
  await caches.has(prefix); // refused where the page has no origin of its own
  const url = (name: string): string => `https://ternlm.invalid/${name}`; // a key: nothing is ever asked there
  // Opened, a folder would begin to be there.
  const open = async (folder: string): Promise<Cache | null> =>
    (await caches.has(prefix + folder)) ? caches.open(prefix + folder) : null;
  return {
    name: 'cache-api',
    folders: async () =>
      (await caches.keys()).filter((each) => each.startsWith(prefix)).map((each) => each.slice(prefix.length)),
    files: async (folder) => ((await (await open(folder))?.keys()) ?? []).map((each) => each.url.replace(/.*\//, '')),
    async read(folder, name) {
      const found = await (await open(folder))?.match(url(name));
      return found ? new Uint8Array(await found.arrayBuffer()) : null;
    },
    async write(folder, name, bytes) {
      await (await caches.open(prefix + folder)).put(url(name), new Response(bytes));
    },
    async remove(folder, name) {
      if (name === undefined) await caches.delete(prefix + folder);
      else await (await open(folder))?.delete(url(name));
    },
  };
}

const inMemory = new Map<string, Map<string, Bytes>>();

async function memory(): Promise<Place> {
  return {
    name: 'memory',
    folders: async () => [...inMemory.keys()],
    files: async (folder) => [...(inMemory.get(folder)?.keys() ?? [])],
    read: async (folder, name) => inMemory.get(folder)?.get(name)?.slice() ?? null,
    async write(folder, name, bytes) {
      const files = inMemory.get(folder) ?? new Map<string, Bytes>();
      inMemory.set(folder, files.set(name, bytes.slice()));
    },
    async remove(folder, name) {
      if (name === undefined) inMemory.delete(folder);
      else inMemory.get(folder)?.delete(name);
    },
  };
}
