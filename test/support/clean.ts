/** What is left of an image, judged by e2fsck and by `ext4d check`: neither has a remark. */
import assert from 'node:assert/strict';
import { fsckFile, run } from './mke2fs.js';
import { EXT4D } from './server.js';

export function mustBeClean(image: string): void {
  const { code, output } = fsckFile(image);
  assert.equal(code, 0, output);
  const check = run(EXT4D, ['check', image]);
  assert.equal(check.code, 0, check.output);
}
