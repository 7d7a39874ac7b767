import assert from 'node:assert/strict';
import { entryBytes, FILE_TYPE } from '../../../src/ext4/format/dir-entry.js';

describe('directory entries', () => {
  it('name the type of a file as the kernel does', () => {
    const types = [0o100000, 0o040000, 0o020000, 0o060000, 0o010000, 0o140000, 0o120000];
    assert.deepEqual(
      types.map((type) => FILE_TYPE[type]),
      [1, 2, 3, 4, 5, 6, 7],
    );
  });

  it('take their header and name, padded to four bytes', () => {
    assert.deepEqual([1, 4, 5, 255].map(entryBytes), [12, 12, 16, 264]);
  });
});
