/**
 * Attribute blocks and values in inodes of their own, by the hash of what they hold: where the next one with the same
 * content can be shared (the kernel's mbcache). Hints only, filled as such things are met; whoever uses one compares.
 */
import type { Handle } from '../jbd2/handle.js';
import type { Volume } from './volume.js';

/** Places remembered; the oldest are forgotten. */
const MAX_PLACES = 16384;
/** Places offered for one hash: an image may be full of collisions. */
const MAX_CANDIDATES = 16;

export class PlacesByHash {
  /** Hash by place, the longest unused first. */
  private readonly hashes = new Map<number, number>();
  private readonly places = new Map<number, Set<number>>();

  /** Without a handle: what is there already. With one: what it makes, forgotten if the handle fails. */
  note(place: number, hash: number, handle?: Handle): void {
    this.forget(place);
    this.hashes.set(place, hash);
    const places = this.places.get(hash);
    if (places === undefined) this.places.set(hash, new Set([place]));
    else {
      places.add(place);
      if (places.size > MAX_CANDIDATES) this.forgetFirst(places);
    }
    if (this.hashes.size > MAX_PLACES) this.forgetFirst(this.hashes);
    handle?.onRollback(() => this.forget(place));
  }

  forget(place: number): void {
    const hash = this.hashes.get(place);
    if (hash === undefined) return;
    this.hashes.delete(place);
    const places = this.places.get(hash);
    places?.delete(place);
    if (places?.size === 0) this.places.delete(hash);
  }

  with(hash: number): readonly number[] {
    return [...(this.places.get(hash) ?? [])];
  }

  private forgetFirst(places: Iterable<number | [number, number]>): void {
    for (const first of places) {
      this.forget(typeof first === 'number' ? first : first[0]);
      return;
    }
  }
}

export interface XattrCaches {
  /** Attribute blocks by h_hash. */
  readonly blocks: PlacesByHash;
  /** Inodes that hold a value, by the hash of the value. */
  readonly values: PlacesByHash;
}

const all = new WeakMap<Volume, XattrCaches>();

/** Null where nothing is to be shared (nombcache). */
export function xattrCaches(vol: Volume): XattrCaches | null {
  if (!vol.policy.sharesXattrs) return null;
  let caches = all.get(vol);
  if (caches === undefined) {
    caches = { blocks: new PlacesByHash(), values: new PlacesByHash() };
    all.set(vol, caches);
  }
  return caches;
}
