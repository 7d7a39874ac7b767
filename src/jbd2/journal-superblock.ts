/** The journal superblock: log block 0. Decoded once, checked, and patched in place when the tail moves. */
import { crc32c } from '../codec/crc.js';
import { ownView, type WriteView } from '../codec/view.js';
import { CorruptionError, UnsupportedError } from '../errors.js';
import {
  BlockType,
  CHECKSUM_TYPE,
  JBD2_FEATURE_COMPAT_CHECKSUM,
  JBD2_FEATURE_INCOMPAT,
  JBD2_MAGIC,
  JOURNAL_SUPERBLOCK,
} from './format.js';

const KNOWN_INCOMPAT = Object.values(JBD2_FEATURE_INCOMPAT).reduce((all, bit) => all | bit, 0);

export class JournalSuperblock {
  /** The 1024 bytes; unknown fields survive because they are patched, never re-encoded. */
  readonly bytes: Uint8Array;
  private readonly view: WriteView;
  version: 1 | 2;
  readonly blockSize: number;
  /** Log length in blocks, this superblock included. */
  readonly maxLen: number;
  /** First log block that holds records. */
  readonly first: number;

  /**
   * Decodes and checks (journal_get_superblock). `logBlocks` is how many blocks the journal inode maps.
   * Throws CorruptionError, or UnsupportedError naming unknown features.
   */
  constructor(bytes: Uint8Array, blockSize: number, logBlocks: number) {
    this.bytes = bytes;
    this.view = ownView(bytes);
    const bad = (finding: string) => new CorruptionError('journal superblock', 'log block 0', finding);
    const get = (field: { get(v: WriteView, b: number): number }) => field.get(this.view, 0);
    if (get(JOURNAL_SUPERBLOCK.h_magic) !== JBD2_MAGIC) throw bad('the magic number is missing');
    const type = get(JOURNAL_SUPERBLOCK.h_blocktype);
    if (type !== BlockType.SUPERBLOCK_V1 && type !== BlockType.SUPERBLOCK_V2) throw bad(`its block type is ${type}`);
    this.version = type === BlockType.SUPERBLOCK_V1 ? 1 : 2;
    this.blockSize = get(JOURNAL_SUPERBLOCK.s_blocksize);
    if (this.blockSize !== blockSize) throw bad(`s_blocksize is ${this.blockSize}, the filesystem's is ${blockSize}`);
    this.maxLen = get(JOURNAL_SUPERBLOCK.s_maxlen);
    if (this.maxLen > logBlocks) throw bad(`s_maxlen is ${this.maxLen}, the journal has ${logBlocks} blocks`);
    this.first = get(JOURNAL_SUPERBLOCK.s_first);
    if (this.first === 0 || this.first >= this.maxLen) throw bad(`s_first is ${this.first}`);
    if (this.start !== 0 && (this.start < this.first || this.start >= this.maxLen))
      throw bad(`s_start is ${this.start}`);
    if (this.version === 2 && get(JOURNAL_SUPERBLOCK.s_feature_ro_compat) !== 0) {
      throw new UnsupportedError('the journal has an unknown read-only feature; a newer e2fsck may know it');
    }
    const unknown = this.incompat & ~KNOWN_INCOMPAT;
    if (unknown !== 0) {
      throw new UnsupportedError(
        `the journal has an unknown incompatible feature (0x${unknown.toString(16)}); a newer e2fsck may know it`,
      );
    }
    if (this.hasIncompat('CSUM_V2') && this.hasIncompat('CSUM_V3')) throw bad('checksum v2 and v3 are both set');
    if (this.checksummed && this.commitChecksum) throw bad('checksum v1 is set beside v2 or v3');
    if (this.checksummed && get(JOURNAL_SUPERBLOCK.s_checksum_type) !== 4) {
      throw bad(`s_checksum_type is ${get(JOURNAL_SUPERBLOCK.s_checksum_type)}, only crc32c (4) exists`);
    }
    if (this.checksummed && this.computeChecksum() !== get(JOURNAL_SUPERBLOCK.s_checksum)) {
      throw new CorruptionError('journal superblock', 'log block 0', 'its checksum does not match', 'EBADMSG');
    }
    if (this.fastCommitBlocks >= this.maxLen - this.first) throw bad(`s_num_fc_blks is ${this.fastCommitBlocks}`);
  }

  get compat(): number {
    return this.version === 1 ? 0 : JOURNAL_SUPERBLOCK.s_feature_compat.get(this.view, 0);
  }
  get incompat(): number {
    return this.version === 1 ? 0 : JOURNAL_SUPERBLOCK.s_feature_incompat.get(this.view, 0);
  }
  hasIncompat(feature: keyof typeof JBD2_FEATURE_INCOMPAT): boolean {
    return (this.incompat & JBD2_FEATURE_INCOMPAT[feature]) !== 0;
  }
  /** Commit blocks carry a crc32 of the whole transaction (checksum v1). */
  get commitChecksum(): boolean {
    return (this.compat & JBD2_FEATURE_COMPAT_CHECKSUM) !== 0;
  }
  /** Every record carries a crc32c (checksum v2 or v3). */
  get checksummed(): boolean {
    return this.hasIncompat('CSUM_V2') || this.hasIncompat('CSUM_V3');
  }
  get uuid(): Uint8Array {
    return JOURNAL_SUPERBLOCK.s_uuid.of(this.bytes, 0).slice();
  }
  /** Seed of every record checksum (j_csum_seed). */
  get seed(): number {
    return crc32c(0xffffffff, JOURNAL_SUPERBLOCK.s_uuid.of(this.bytes, 0));
  }
  get fastCommitBlocks(): number {
    if (!this.hasIncompat('FAST_COMMIT')) return 0;
    const blocks = JOURNAL_SUPERBLOCK.s_num_fc_blks.get(this.view, 0);
    return blocks === 0 ? 256 : blocks;
  }
  /** End of the ring: records live in [first, end); the fast-commit area follows. */
  get end(): number {
    return this.maxLen - this.fastCommitBlocks;
  }
  /** First tid that replay expects. */
  get sequence(): number {
    return JOURNAL_SUPERBLOCK.s_sequence.get(this.view, 0);
  }
  /** Log block where replay starts; 0 means the log is empty. */
  get start(): number {
    return JOURNAL_SUPERBLOCK.s_start.get(this.view, 0);
  }
  get errno(): number {
    return JOURNAL_SUPERBLOCK.s_errno.get(this.view, 0) | 0;
  }

  setTail(sequence: number, start: number): void {
    JOURNAL_SUPERBLOCK.s_sequence.set(this.view, 0, sequence);
    JOURNAL_SUPERBLOCK.s_start.set(this.view, 0, start);
    this.seal();
  }
  setErrno(errno: number): void {
    JOURNAL_SUPERBLOCK.s_errno.set(this.view, 0, errno >>> 0);
    this.seal();
  }
  /**
   * Sets what this program writes (an empty log only): revoke records, 64-bit tags and checksum v3 as the filesystem
   * has them; commit checksums v1 and asynchronous commits off. A version 1 superblock becomes version 2.
   */
  prepareForWriting(filesystem: { is64bit: boolean; metadataCsum: boolean }): void {
    const F = JBD2_FEATURE_INCOMPAT;
    if (this.version === 1) {
      JOURNAL_SUPERBLOCK.h_blocktype.set(this.view, 0, BlockType.SUPERBLOCK_V2);
      this.version = 2;
      this.bytes.fill(0, JOURNAL_SUPERBLOCK.s_feature_compat.offset, 1024);
    }
    let incompat = (this.incompat | F.REVOKE) & ~(F.ASYNC_COMMIT | F.CSUM_V2 | F.CSUM_V3 | F['64BIT']);
    if (filesystem.is64bit) incompat |= F['64BIT'];
    if (filesystem.metadataCsum) incompat |= F.CSUM_V3;
    JOURNAL_SUPERBLOCK.s_feature_incompat.set(this.view, 0, incompat);
    JOURNAL_SUPERBLOCK.s_feature_compat.set(this.view, 0, this.compat & ~JBD2_FEATURE_COMPAT_CHECKSUM);
    JOURNAL_SUPERBLOCK.s_checksum_type.set(this.view, 0, filesystem.metadataCsum ? CHECKSUM_TYPE.CRC32C : 0);
    this.seal();
  }

  /** True if there is room for an area behind a log of at least `minLogBlocks`. From here on the log ends where it begins. */
  makeFastCommitArea(minLogBlocks: number): boolean {
    const before = this.incompat;
    if (this.version === 1) return false;
    this.setFastCommit(true);
    if (this.end - this.first >= minLogBlocks) return true;
    JOURNAL_SUPERBLOCK.s_feature_incompat.set(this.view, 0, before);
    this.seal();
    return false;
  }

  /** A log that is marked empty says nothing of the area, so that older kernels take it (jbd2_mark_journal_empty). */
  setFastCommit(used: boolean): void {
    const bit = JBD2_FEATURE_INCOMPAT.FAST_COMMIT;
    JOURNAL_SUPERBLOCK.s_feature_incompat.set(this.view, 0, used ? this.incompat | bit : this.incompat & ~bit);
    this.seal();
  }

  private seal(): void {
    if (this.checksummed) JOURNAL_SUPERBLOCK.s_checksum.set(this.view, 0, this.computeChecksum());
  }

  private computeChecksum(): number {
    const stored = JOURNAL_SUPERBLOCK.s_checksum.offset;
    let crc = crc32c(0xffffffff, this.bytes.subarray(0, stored));
    crc = crc32c(crc, new Uint8Array(4));
    return crc32c(crc, this.bytes.subarray(stored + 4, 1024));
  }
}
