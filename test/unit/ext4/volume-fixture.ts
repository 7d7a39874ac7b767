/** A volume over an image in memory with a few empty files, for tests below the level of names. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { isBlockUninit } from '../../../src/ext4/block-bitmap.js';
import { realEnvironment } from '../../../src/ext4/environment.js';
import { GroupDescriptor } from '../../../src/ext4/group.js';
import type { MountPolicy } from '../../../src/ext4/mount-policy.js';
import { closeVolume, openVolume } from '../../../src/ext4/open.js';
import type { Volume } from '../../../src/ext4/volume.js';
import { fsck, makeImage, withScratch } from '../../support/mke2fs.js';

/** Inode of the first file; the others follow. */
export const FIRST_FILE = 12;

export interface Fixture {
  readonly image: Uint8Array;
  readonly vol: Volume;
}

/** `files` empty regular files with the inodes from {@link FIRST_FILE} on. */
export function imageWithFiles(sizeMiB: number, files: number, args: readonly string[] = []): Uint8Array {
  return withScratch((scratch) => {
    const content = join(scratch, 'content');
    mkdirSync(content);
    for (let i = 0; i < files; i++) writeFileSync(join(content, `file${i}`), '');
    return makeImage(sizeMiB, ['-d', content, ...args]);
  });
}

export function openImage(image: Uint8Array, policy: Partial<MountPolicy> = {}): Fixture {
  // Commits only when a test asks for one, and leaves no timer behind.
  const env = { ...realEnvironment, schedule: () => () => {} };
  const { volume } = openVolume(new MemoryDevice(image), { env, policy });
  return { image, vol: volume };
}

/** Unmounts, and lets e2fsck judge what is left. */
export function closeAndCheck({ image, vol }: Fixture): void {
  closeVolume(vol);
  const { code, output } = fsck(image);
  assert.equal(code, 0, output);
}

/** Overwrites every free block, so that bytes nobody wrote show. */
export function fillFreeBlocks({ image, vol }: Fixture, value: number): void {
  const { geometry } = vol;
  const state = new Uint8Array(geometry.blockSize);
  for (let group = 0; group < geometry.groupCount; group++) {
    const desc = GroupDescriptor.get(vol, group);
    if (isBlockUninit(vol, desc)) continue;
    vol.device.read(desc.blockBitmap * geometry.blockSize, state);
    for (let bit = 0; bit < geometry.groupClusters(group); bit++) {
      if ((state[bit >> 3] & (1 << (bit & 7))) !== 0) continue;
      const at = geometry.blockOfBit(group, bit) * geometry.blockSize;
      image.fill(value, at, at + geometry.clusterRatio * geometry.blockSize);
    }
  }
}

/** A small deterministic generator: equal seeds give equal runs. */
export function generator(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}
