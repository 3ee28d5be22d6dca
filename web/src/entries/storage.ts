// The entry 'ternlm/storage': what load() has kept in this browser, how much room there is, and how to get it back.
// SPDX-License-Identifier: MIT

import { baseUrl } from '../context.js';
import { badOption } from '../errors.js';
import { Entry } from '../store/entry.js';
import { allPlaces, type Place, type PlaceName } from '../store/places.js';

/** A model that is kept, or the beginning of one. */
export interface StoredModel {
  /** Names it for delete(). */
  readonly id: string;
  /** Where it came from. */
  readonly url: string;
  /** SHA-256 that the model was to have; null where none was given. */
  readonly integrity: string | null;
  readonly place: PlaceName;
  /** Bytes that are kept. */
  readonly bytes: number;
  /** All of it is there: it loads without a network. Otherwise a download of it is under way, or was interrupted. */
  readonly complete: boolean;
  /** When its download began. */
  readonly stored: Date;
}

export interface StorageEstimate {
  /** Bytes of all that is kept by load(). */
  readonly models: number;
  /** Bytes that this origin uses in all, and may use, as the browser estimates; null where it does not say. */
  readonly usage: number | null;
  readonly quota: number | null;
  /** Whether the browser has promised not to clear this origin's storage by itself. */
  readonly persisted: boolean;
}

export interface ModelStorage {
  list(): Promise<StoredModel[]>;
  /** By `id`, `integrity` or address, relative ones as load() takes them. Answers how many were deleted. One that is being loaded meanwhile is loaded all the same. */
  delete(which: string | URL): Promise<number>;
  /** Deletes all that load() has kept; of other storage nothing. */
  clear(): Promise<number>;
  estimate(): Promise<StorageEstimate>;
  /** Asks the browser (some ask the reader) not to clear this origin's storage by itself. Answers whether it promises that. */
  persist(): Promise<boolean>;
}

export const storage: ModelStorage = {
  list,
  async delete(which) {
    if (typeof which !== 'string' && !(which instanceof URL))
      throw badOption('which', 'an id, address or checksum', which);
    const [name, address] = [String(which), absolute(String(which))];
    return remove(({ id, url, integrity }) => [id, integrity].includes(name) || url === address);
  },
  async clear() {
    const known = await remove(() => true);
    // Also what another version of the package has left.
    for (const place of await allPlaces()) for (const folder of await place.folders()) await place.remove(folder);
    return known;
  },
  async estimate() {
    const manager = managerOf();
    const { usage = null, quota = null } = (await settled(manager?.estimate())) ?? {};
    const models = (await list()).reduce((sum, { bytes }) => sum + bytes, 0);
    return { models, usage, quota, persisted: (await settled(manager?.persisted())) ?? false };
  },
  async persist() {
    return (await settled(managerOf()?.persist())) ?? false;
  },
};

async function list(): Promise<StoredModel[]> {
  const found = await Promise.all((await allPlaces()).map(listOf));
  return found.flat().sort((a, b) => Number(a.stored) - Number(b.stored));
}

async function listOf(place: Place): Promise<StoredModel[]> {
  const models: StoredModel[] = [];
  for (const id of await place.folders()) {
    const entry = await Entry.open(place, id);
    if (!entry.about) continue;
    const { url, integrity, stored } = entry.about;
    models.push({
      id,
      url,
      integrity,
      place: place.name,
      bytes: entry.bytes,
      complete: entry.isWhole,
      stored: new Date(stored),
    });
  }
  return models;
}

async function remove(isMeant: (model: StoredModel) => boolean): Promise<number> {
  let count = 0;
  for (const place of await allPlaces()) {
    for (const model of (await listOf(place)).filter(isMeant)) {
      await place.remove(model.id);
      count++;
    }
  }
  return count;
}

function managerOf(): StorageManager | undefined {
  return 'navigator' in globalThis && 'storage' in navigator ? navigator.storage : undefined;
}

/** Undefined where the page may not ask. */
async function settled<T>(asked: Promise<T> | undefined): Promise<T | undefined> {
  try {
    return await asked;
  } catch {
    return undefined;
  }
}

/** The address as load() keeps it; what is none stays as it is. */
function absolute(address: string): string {
  try {
    return new URL(address, baseUrl()).href;
  } catch {
    return address;
  }
}
