import assert from 'node:assert/strict';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { crc32c } from '../../../src/codec/crc.js';
import { ownView } from '../../../src/codec/view.js';
import { realEnvironment } from '../../../src/ext4/environment.js';
import { Filesystem } from '../../../src/ext4/filesystem.js';
import { EXT4_ROOT_INO } from '../../../src/ext4/format/inode.js';
import { EXT4_MMP_SEQ_CLEAN, EXT4_MMP_SEQ_FSCK, MMP } from '../../../src/ext4/format/mmp.js';
import { readGeometry } from '../../../src/ext4/open.js';
import type { Environment, Geometry } from '../../../src/ext4/volume.js';
import { debugfs, fsck, makeImage } from '../../support/mke2fs.js';

/** An image on storage that another machine can reach, and a clock that is turned by hand. */
class Shared {
  readonly image = makeImage(16, ['-O', 'mmp']);
  readonly device = new MemoryDevice(this.image);
  readonly geometry: Geometry = readGeometry(this.device);
  readonly slept: number[] = [];
  /** What the other machine does while this one waits for the n-th time. */
  meanwhile: (wait: number) => void = () => {};
  private timer: (() => void) | null = null;

  readonly env: Environment = {
    ...realEnvironment,
    sleep: (ms) => {
      this.slept.push(ms);
      this.meanwhile(this.slept.length);
    },
    schedule: (ms, action) => {
      if (ms === 2500) this.timer = action;
      return () => {
        this.timer = null;
      };
    },
  };

  open(options: { readOnly?: boolean } = {}): Filesystem {
    return Filesystem.open(this.device, { env: this.env, ...options });
  }

  get seq(): number {
    return MMP.mmp_seq.get(ownView(this.image), this.geometry.mmpBlock * this.geometry.blockSize);
  }
  set seq(value: number) {
    const at = this.geometry.mmpBlock * this.geometry.blockSize;
    const view = ownView(this.image);
    MMP.mmp_seq.set(view, at, value);
    const sum = crc32c(this.geometry.csumSeed, this.image.subarray(at, at + MMP.mmp_checksum.offset));
    MMP.mmp_checksum.set(view, at, sum);
  }

  tick(): void {
    assert.notEqual(this.timer, null, 'it is kept alive');
    this.timer?.();
  }
}

describe('multiple mount protection', () => {
  it('takes a filesystem that nobody uses after one wait, changes the number while it is mounted, and ends clean', () => {
    const shared = new Shared();
    assert.equal(shared.seq, EXT4_MMP_SEQ_CLEAN);
    const fs = shared.open();
    assert.deepEqual(shared.slept, [11_000]);
    const numbers = [shared.seq];
    for (let i = 0; i < 3; i++) {
      shared.tick();
      numbers.push(shared.seq);
    }
    assert.equal(new Set(numbers).size, 4);
    assert.match(debugfs(shared.image, 'dump_mmp'), /magic: 0x4d4d50/i);
    fs.mkdir(EXT4_ROOT_INO, new TextEncoder().encode('d'), 0o755, { uid: 0, gid: 0 });
    fs.closeSync();
    assert.equal(shared.seq, EXT4_MMP_SEQ_CLEAN);
    const { code, output } = fsck(shared.image);
    assert.equal(code, 0, output);
  });

  it('waits twice for one whose user went without unmounting', () => {
    const shared = new Shared();
    shared.seq = 77;
    shared.open().closeSync();
    assert.deepEqual(shared.slept, [11_000, 11_000]);
  });

  for (const [when, wait] of [
    ['is using it', 1],
    ['takes it at the same moment', 2],
  ] as const) {
    it(`refuses a filesystem when another machine ${when}, naming it, with nothing written to the rest of the image`, () => {
      const shared = new Shared();
      shared.seq = 77;
      const before = shared.image.slice();
      shared.meanwhile = (n) => {
        if (n === wait) shared.seq = 1000 + n;
      };
      assert.throws(() => shared.open(), { code: 'EBUSY', message: /another machine .*last by .*multiple mount/ });
      assert.equal(shared.seq, 1000 + wait);
      const at = shared.geometry.mmpBlock * shared.geometry.blockSize;
      for (const bytes of [shared.image, before]) bytes.fill(0, at, at + shared.geometry.blockSize);
      assert.ok(Buffer.from(shared.image).equals(before));
    });
  }

  it('refuses a filesystem that e2fsck is checking, and does not wait', () => {
    const shared = new Shared();
    shared.seq = EXT4_MMP_SEQ_FSCK;
    assert.throws(() => shared.open(), { code: 'EBUSY', message: /e2fsck/ });
    assert.deepEqual(shared.slept, []);
  });

  it('writes nothing more once another machine has taken the filesystem', () => {
    const shared = new Shared();
    const fs = shared.open();
    shared.seq = 4711;
    shared.tick();
    assert.throws(() => fs.mkdir(EXT4_ROOT_INO, new TextEncoder().encode('d'), 0o755, { uid: 0, gid: 0 }), {
      code: 'EROFS',
    });
    fs.closeSync();
    assert.equal(shared.seq, 4711);
  });

  it('does not wait to read only', () => {
    const shared = new Shared();
    shared.seq = 77;
    shared.open({ readOnly: true }).closeSync();
    assert.deepEqual(shared.slept, []);
    assert.equal(shared.seq, 77);
  });

  it('calls a damaged block corrupt', () => {
    const shared = new Shared();
    const at = shared.geometry.mmpBlock * shared.geometry.blockSize;
    shared.image[at + 20] ^= 1;
    assert.throws(() => shared.open(), { name: 'CorruptionError', message: /MMP block/ });
  });
});
