/** Numbers of block devices, as journal_dev= takes them. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { blockDevicePath, parseDeviceNumber } from '../../../src/cli/device-number.js';
import { parseMountOptions } from '../../../src/cli/mount-options.js';
import { withScratch } from '../../support/mke2fs.js';

describe('the number of a block device', () => {
  it('is a pair, or one number with the minor in two parts', () => {
    assert.deepEqual(parseDeviceNumber('8:16'), { major: 8, minor: 16 });
    assert.deepEqual(parseDeviceNumber('0x810'), { major: 8, minor: 16 });
    assert.deepEqual(parseDeviceNumber('2064'), { major: 8, minor: 16 });
    assert.deepEqual(parseDeviceNumber('04020'), { major: 8, minor: 16 });
    assert.deepEqual(parseDeviceNumber('0x1010305'), { major: 0x103, minor: 0x1005 });
    for (const text of [
      '',
      '8:',
      ':1',
      '8:1:1',
      '-1',
      '4096:0',
      '8:1048576',
      '0x100000000',
      '1.5',
      '08',
      '/dev/sda',
      'NaN',
    ])
      assert.equal(parseDeviceNumber(text), null, text);
  });

  it('leads to the node that the kernel names, or to none', () =>
    withScratch((scratch) => {
      mkdirSync(join(scratch, '8:16'));
      writeFileSync(join(scratch, '8:16', 'uevent'), 'MAJOR=8\nMINOR=16\nDEVNAME=sdb\nDEVTYPE=disk\n');
      assert.equal(blockDevicePath({ major: 8, minor: 16 }, scratch, '/dev'), '/dev/sdb');
      assert.throws(
        () => blockDevicePath({ major: 8, minor: 17 }, scratch, '/dev'),
        /8:17: there is no such block device/,
      );
    }));

  it('may be given more than once to a mount, and must be one', () => {
    const { journalDevices } = parseMountOptions(['journal_dev=8:16,journal_dev=0x811']);
    assert.deepEqual(journalDevices, [
      { major: 8, minor: 16 },
      { major: 8, minor: 17 },
    ]);
    assert.throws(() => parseMountOptions(['journal_dev=/dev/sdb']), /not MAJOR:MINOR/);
  });
});
