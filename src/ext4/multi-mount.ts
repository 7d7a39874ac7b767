/**
 * Multiple mount protection (fs/ext4/mmp.c): a filesystem on storage that several machines reach is used by one of them.
 * Who wants it looks whether the number in the MMP block changes, writes one of its own, looks again, and from then on
 * changes it every few seconds. No lock of this machine can tell what another does.
 */
import { hostname } from 'node:os';
import type { BlockDevice } from '../block/device.js';
import { crc32c } from '../codec/crc.js';
import { ownView } from '../codec/view.js';
import { CorruptionError, FsError } from '../errors.js';
import { INCOMPAT } from './features.js';
import {
  EXT4_MMP_MAGIC,
  EXT4_MMP_MAX_CHECK_INTERVAL,
  EXT4_MMP_MIN_CHECK_INTERVAL,
  EXT4_MMP_SEQ_CLEAN,
  EXT4_MMP_SEQ_FSCK,
  EXT4_MMP_SEQ_MAX,
  MMP,
} from './format/mmp.js';
import type { Environment, Geometry } from './volume.js';

export class MultiMountProtection {
  private readonly device: BlockDevice;
  private readonly geometry: Geometry;
  private readonly env: Environment;
  private readonly block: Uint8Array;
  private readonly seconds: number;
  private seq = 0;
  private cancel: (() => void) | null = null;

  private constructor(device: BlockDevice, geometry: Geometry, env: Environment) {
    this.device = device;
    this.geometry = geometry;
    this.env = env;
    this.block = new Uint8Array(geometry.blockSize);
    const found = this.read();
    this.seconds = Math.max(
      geometry.mmpUpdateSeconds,
      EXT4_MMP_MIN_CHECK_INTERVAL,
      MMP.mmp_check_interval.get(found, 0),
    );
    // The mount waits for twice that long.
    if (this.seconds > EXT4_MMP_MAX_CHECK_INTERVAL) {
      const place = `block ${geometry.mmpBlock}`;
      throw new CorruptionError('MMP block', place, `it is to be looked at every ${this.seconds} seconds`);
    }
  }

  /**
   * Takes the filesystem for this machine, before anything is written to it; null without the mmp feature. Waits, the
   * thread blocked, 11 seconds by default, and twice that if the last user did not unmount (ext4_multi_mount_protect).
   * Throws FsError EBUSY, CorruptionError.
   */
  static claim(device: BlockDevice, geometry: Geometry, env: Environment): MultiMountProtection | null {
    if ((geometry.incompat & INCOMPAT.mmp) === 0) return null;
    const mmp = new MultiMountProtection(device, geometry, env);
    mmp.take();
    return mmp;
  }

  /** Runs `work` while the filesystem is this machine's. Throws as {@link claim}. */
  static during<T>(device: BlockDevice, geometry: Geometry, env: Environment, work: () => T): T {
    const mmp = MultiMountProtection.claim(device, geometry, env);
    try {
      return work();
    } finally {
      mmp?.release();
    }
  }

  /** From now on others see that it is in use. `lost` hears, once, that another machine took it nevertheless. */
  keepAlive(lost: (error: FsError | CorruptionError) => void): void {
    this.cancel = this.env.schedule((this.seconds * 1000) / 2, () => {
      try {
        this.checkStillOurs();
        this.write(this.seq >= EXT4_MMP_SEQ_MAX ? 1 : this.seq + 1);
        this.keepAlive(lost);
      } catch (error) {
        if (!(error instanceof FsError || error instanceof CorruptionError)) throw error;
        this.cancel = null;
        lost(error);
      }
    });
  }

  /** Nobody uses it any more. Everything else has been written. Throws FsError. */
  release(): void {
    this.cancel?.();
    this.cancel = null;
    this.write(EXT4_MMP_SEQ_CLEAN);
  }

  private take(): void {
    const before = MMP.mmp_seq.get(this.read(), 0);
    const waitMs = Math.min(this.seconds * 2 + 1, this.seconds + 60) * 1000;
    if (before === EXT4_MMP_SEQ_FSCK)
      throw this.busy('e2fsck is running on it; if it is not, e2fsck -f or tune2fs -f -E clear_mmp ends this');
    if (before !== EXT4_MMP_SEQ_CLEAN) {
      this.env.sleep(waitMs);
      if (MMP.mmp_seq.get(this.read(), 0) !== before) throw this.busy('another machine uses it');
    }
    this.write((this.env.random32() % EXT4_MMP_SEQ_MAX) + 1);
    this.env.sleep(waitMs);
    this.checkStillOurs();
  }

  private checkStillOurs(): void {
    if (MMP.mmp_seq.get(this.read(), 0) !== this.seq) throw this.busy('another machine has begun to use it');
  }

  private busy(what: string): FsError {
    const text = (field: typeof MMP.mmp_nodename) =>
      Buffer.from(field.of(this.block, 0)).toString('latin1').replace(/\0.*$/s, '');
    const when = new Date(MMP.mmp_time.get(ownView(this.block), 0) * 1000);
    const whose = `${text(MMP.mmp_nodename)} (${text(MMP.mmp_bdevname)})`;
    const time = Number.isNaN(when.getTime()) ? 'at an unknown time' : when.toISOString();
    return new FsError('EBUSY', `${what}: last by ${whose}, ${time} (multiple mount protection)`);
  }

  private read(): ReturnType<typeof ownView> {
    const { geometry, block } = this;
    const place = `block ${geometry.mmpBlock}`;
    if (geometry.mmpBlock <= geometry.superblockBlock || geometry.mmpBlock >= geometry.blocksCount)
      throw new CorruptionError('MMP block', place, 'outside the filesystem');
    this.device.read(geometry.mmpBlock * geometry.blockSize, block);
    const view = ownView(block);
    if (MMP.mmp_magic.get(view, 0) !== EXT4_MMP_MAGIC)
      throw new CorruptionError('MMP block', place, 'its magic number is missing: run e2fsck');
    if (geometry.metadataCsum && MMP.mmp_checksum.get(view, 0) !== this.checksum())
      throw new CorruptionError('MMP block', place, 'its checksum does not match: run e2fsck', 'EBADMSG');
    return view;
  }

  private checksum(): number {
    return crc32c(this.geometry.csumSeed, this.block.subarray(0, MMP.mmp_checksum.offset));
  }

  private write(seq: number): void {
    const { block, geometry } = this;
    const view = ownView(block);
    const text = (field: typeof MMP.mmp_nodename, value: string) => {
      const bytes = block.subarray(field.offset, field.offset + field.size);
      bytes.fill(0);
      bytes.set(Buffer.from(value).subarray(0, field.size - 1));
    };
    this.seq = seq;
    MMP.mmp_seq.set(view, 0, seq);
    MMP.mmp_time.set(view, 0, this.env.now().seconds);
    MMP.mmp_check_interval.set(view, 0, this.seconds);
    text(MMP.mmp_nodename, hostname());
    text(MMP.mmp_bdevname, 'ext4d');
    if (geometry.metadataCsum) MMP.mmp_checksum.set(view, 0, this.checksum());
    this.device.write(geometry.mmpBlock * geometry.blockSize, block);
    this.device.flush();
  }
}
