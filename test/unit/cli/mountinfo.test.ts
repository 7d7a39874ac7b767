import assert from 'node:assert/strict';
import { parseMountinfo } from '../../../src/cli/mountinfo.js';

describe('mountinfo', () => {
  it('fields, escapes, optional fields, read-only in either place', () => {
    const entries = parseMountinfo(
      [
        '36 35 0:52 / /mnt/a\\040b rw,relatime shared:1 master:2 - fuse.ext4d /srv/i\\134mg rw,user_id=0',
        '37 35 8:1 / /ro ro - ext4 /dev/sda1 rw',
        '38 35 0:53 /sub /ro2 rw - fuse.ext4d /x ro,user_id=0',
        'nonsense',
        '',
      ].join('\n'),
    );
    const fuse = 'fuse.ext4d';
    assert.deepEqual(entries, [
      {
        device: '0:52',
        root: '/',
        mountpoint: '/mnt/a b',
        type: fuse,
        source: '/srv/i\\mg',
        readOnly: false,
        words: ['rw', 'relatime', 'rw', 'user_id=0'],
      },
      {
        device: '8:1',
        root: '/',
        mountpoint: '/ro',
        type: 'ext4',
        source: '/dev/sda1',
        readOnly: true,
        words: ['ro', 'rw'],
      },
      {
        device: '0:53',
        root: '/sub',
        mountpoint: '/ro2',
        type: fuse,
        source: '/x',
        readOnly: true,
        words: ['rw', 'ro', 'user_id=0'],
      },
    ]);
  });
});
