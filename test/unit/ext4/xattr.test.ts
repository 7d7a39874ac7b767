/** Attributes: blocks that inodes share, and values in inodes of their own. What is left is judged by e2fsck and by our own check. */
import assert from 'node:assert/strict';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { CorruptionError, FsError } from '../../../src/errors.js';
import { checkFilesystem } from '../../../src/ext4/check/check.js';
import { ValueReferences } from '../../../src/ext4/ea-inode.js';
import { realEnvironment } from '../../../src/ext4/environment.js';
import { evict } from '../../../src/ext4/evict.js';
import { EXT4_EA_INODE_FL } from '../../../src/ext4/format/inode.js';
import { XATTR_ENTRY } from '../../../src/ext4/format/xattr.js';
import { Inode, type WritableInode } from '../../../src/ext4/inode.js';
import type { MountPolicy } from '../../../src/ext4/mount-policy.js';
import * as namei from '../../../src/ext4/namei.js';
import { closeVolume, openVolume } from '../../../src/ext4/open.js';
import { totals } from '../../../src/ext4/totals.js';
import type { Volume } from '../../../src/ext4/volume.js';
import {
  blockAttributes,
  getXattr,
  inodeAttributes,
  removeXattr,
  setXattr,
  xattrBlockReferences,
} from '../../../src/ext4/xattr.js';
import { fsck } from '../../support/mke2fs.js';
import { closeAndCheck, FIRST_FILE, type Fixture, generator, imageWithFiles } from './volume-fixture.js';

const A = FIRST_FILE;
const B = FIRST_FILE + 1;
const C = FIRST_FILE + 2;
const FORMATS: { name: string; args: string[] }[] = [
  { name: '4k', args: ['-b', '4096', '-O', 'ea_inode'] },
  { name: '1k', args: ['-b', '1024', '-O', 'ea_inode'] },
  { name: '1k, small inodes', args: ['-b', '1024', '-I', '128', '-O', 'ea_inode'] },
  { name: 'block maps', args: ['-b', '1024', '-O', 'ea_inode,^extent,^64bit,^metadata_csum'] },
  { name: 'large inodes, no journal', args: ['-b', '2048', '-I', '1024', '-O', 'ea_inode,^has_journal'] },
];

const bytes = (text: string) => new TextEncoder().encode(text);
const value = (length: number, seed = 1) => {
  const random = generator(seed);
  return Uint8Array.from({ length }, () => random(256));
};
const set = (vol: Volume, ino: number, name: string, content: Uint8Array) =>
  setXattr(vol, ino, bytes(name), content, 0);
const get = (vol: Volume, ino: number, name: string) => getXattr(vol, ino, bytes(name));

function open(args: readonly string[], files = 3, policy: Partial<MountPolicy> = {}): Fixture {
  const image = imageWithFiles(16, files, args);
  return { image, vol: reopen(image, policy) };
}

function reopen(image: Uint8Array, policy: Partial<MountPolicy> = {}): Volume {
  const env = { ...realEnvironment, schedule: () => () => {} };
  return openVolume(new MemoryDevice(image), { env, policy }).volume;
}

/** Numbers of the inodes that hold values of this one. */
function valueInodes(vol: Volume, ino: number): number[] {
  const inode = Inode.load(vol, ino);
  return [...inodeAttributes(inode), ...blockAttributes(inode)].flatMap(({ external }) =>
    external === null ? [] : [external.ino],
  );
}

/** The file goes, whatever its name. */
function remove(vol: Volume, ino: number): void {
  let i = 0;
  while (namei.lookup(vol, 2, bytes(`file${i}`)) !== ino) i++;
  namei.unlink(vol, 2, bytes(`file${i}`));
  evict(vol, ino);
}

function edit(vol: Volume, ino: number, change: (inode: WritableInode) => void): void {
  vol.journal.run(4, (handle) => change(Inode.load(vol, ino).edit(handle)));
}

function closeAndCheckTwice(fixture: Fixture): void {
  closeAndCheck(fixture);
  const { findings } = checkFilesystem(reopen(fixture.image));
  assert.deepEqual(findings.map(String), []);
}

describe('values in inodes of their own', () => {
  for (const { name, args } of FORMATS) {
    it(`are as long as calls allow, and leave nothing behind (${name})`, () => {
      const fixture = open(args);
      const { vol } = fixture;
      set(vol, A, 'user.first', value(3));
      const before = { ...totals(vol) };
      const values = [value(65536, 1), value(65535, 2), value(5000, 3), value(1, 4), value(0)];
      values.forEach((content, i) => {
        set(vol, A, `user.${i}`, content);
      });
      values.forEach((content, i) => {
        assert.deepEqual(get(vol, A, `user.${i}`), content);
      });
      assert.throws(() => set(vol, A, 'user.more', value(65537)), /E2BIG/);
      assert.equal(valueInodes(vol, A).length, 3);
      set(vol, A, 'user.0', value(70, 9));
      assert.deepEqual(get(vol, A, 'user.0'), value(70, 9));
      closeAndCheckTwice(fixture);

      const again = reopen(fixture.image);
      for (let i = 1; i < values.length; i++) assert.deepEqual(get(again, A, `user.${i}`), values[i]);
      for (let i = 0; i < values.length; i++) removeXattr(again, A, bytes(`user.${i}`));
      const after = { ...totals(again) };
      assert.deepEqual([after.freeBlocks, after.freeInodes], [before.freeBlocks, before.freeInodes]);
      closeAndCheckTwice({ image: fixture.image, vol: again });
    });
  }

  it('are shared by those that are equal, and freed with the last of them', () => {
    const fixture = open(FORMATS[0].args);
    const { vol } = fixture;
    const { freeInodes } = totals(vol);
    for (const ino of [A, B, C]) set(vol, ino, 'user.v', value(20_000));
    set(vol, B, 'user.w', value(20_000));
    assert.equal(totals(vol).freeInodes, freeInodes - 1);
    // With an equal one, and with another.
    set(vol, A, 'user.v', value(20_000));
    set(vol, A, 'user.v', value(20_000, 2));
    assert.equal(totals(vol).freeInodes, freeInodes - 2);
    removeXattr(vol, C, bytes('user.v'));
    assert.deepEqual(get(vol, B, 'user.w'), value(20_000));
    closeAndCheckTwice(fixture);

    // Met again by reading it, after a mount that knows nothing of it.
    const again = reopen(fixture.image);
    assert.deepEqual(get(again, A, 'user.v'), value(20_000, 2));
    set(again, C, 'user.x', value(20_000, 2));
    assert.equal(totals(again).freeInodes, freeInodes - 2);
    remove(again, A);
    assert.deepEqual(get(again, C, 'user.x'), value(20_000, 2));
    removeXattr(again, C, bytes('user.x'));
    assert.equal(totals(again).freeInodes, freeInodes);
    closeAndCheckTwice({ image: fixture.image, vol: again });
  });

  it('are counted once for each copy of a block that lists them', () => {
    const fixture = open(FORMATS[1].args);
    const { vol } = fixture;
    // Too much for the inode: in the block.
    const fill = (ino: number) => {
      set(vol, ino, 'user.a', value(600, 5));
      set(vol, ino, 'user.b', value(9000, 6));
      for (let i = 0; i < 6; i++) set(vol, ino, `user.a-name-of-some-length-${i}`, value(2000, 7));
    };
    for (const ino of [A, B, C]) fill(ino);
    assert.equal(Inode.get(vol, A).fileAcl, Inode.get(vol, C).fileAcl);
    assert.equal(xattrBlockReferences(vol, Inode.get(vol, A).fileAcl), 3);
    closeAndCheckTwice(fixture);
    const again = reopen(fixture.image);
    set(again, B, 'user.a', value(600, 8));
    assert.deepEqual(get(again, A, 'user.a'), value(600, 5));
    assert.equal(xattrBlockReferences(again, Inode.get(again, A).fileAcl), 2);
    // Back to what the others have.
    set(again, B, 'user.a', value(600, 5));
    assert.equal(xattrBlockReferences(again, Inode.get(again, A).fileAcl), 3);
    for (const ino of [A, B, C]) remove(again, ino);
    closeAndCheckTwice({ image: fixture.image, vol: again });
  });

  it('take nothing when there is no room for them', () => {
    const fixture = open(['-b', '1024', '-N', '16', '-O', 'ea_inode,^resize_inode']);
    const { vol } = fixture;
    const { freeInodes } = totals(vol);
    for (let i = 0; i < freeInodes; i++) set(vol, A, `user.${i}`, value(3000, i + 1));
    const last = value(3000, freeInodes + 1);
    assert.throws(
      () => set(vol, A, 'user.last', last),
      (error) => error instanceof FsError && error.code === 'ENOSPC',
    );
    // What was begun for it is not offered to others.
    removeXattr(vol, A, bytes('user.0'));
    vol.journal.commitNow();
    set(vol, B, 'user.last', last);
    assert.deepEqual(get(vol, B, 'user.last'), last);
    closeAndCheckTwice(fixture);
  });

  it('are freed by the next mount if a crash comes before they are', () => {
    const { image, vol } = open(FORMATS[0].args);
    const { freeInodes, freeBlocks } = totals(vol);
    set(vol, A, 'user.v', value(30_000));
    const [ino] = valueInodes(vol, A);
    vol.journal.run(20, (handle) => {
      // What setXattr does before it evicts.
      const owner = Inode.get(vol, A).edit(handle);
      const references = new ValueReferences();
      references.drop(inodeAttributes(owner));
      owner.block.bytes.fill(0, owner.extraEnd, owner.end);
      owner.addBlocks(-8);
      assert.deepEqual(references.settle(handle, owner), [ino]);
    });
    vol.journal.commitNow();
    vol.journal.stop(new FsError('EIO', 'the power is gone'));
    const again = reopen(image);
    assert.deepEqual([totals(again).freeInodes, totals(again).freeBlocks], [freeInodes, freeBlocks]);
    assert.equal(Inode.load(again, ino).mode, 0);
    closeAndCheckTwice({ image, vol: again });
  });

  it('survive any order of changes', () => {
    for (const [seed, { args }] of FORMATS.entries()) {
      const fixture = open(args, 12);
      const { vol } = fixture;
      const random = generator(seed + 1);
      const pool = [0, 3, 50, 90, 400, 800, 900, 2000, 4000, 5000, 65536].map((length) => value(length, length + 1));
      const model = new Map<number, Map<string, Uint8Array>>();
      for (let i = 0; i < 12; i++) model.set(FIRST_FILE + i, new Map());
      for (let step = 0; step < 600; step++) {
        const inos = [...model.keys()];
        const ino = inos[random(inos.length)];
        const attributes = model.get(ino) as Map<string, Uint8Array>;
        const name = `user.k${random(8)}`;
        const choice = random(100);
        if (choice === 0 && model.size > 6) {
          remove(vol, ino);
          model.delete(ino);
        } else if (choice < 25) {
          if (attributes.delete(name)) removeXattr(vol, ino, bytes(name));
        } else {
          const content = pool[random(pool.length)];
          try {
            set(vol, ino, name, content);
            attributes.set(name, content);
          } catch (error) {
            assert.ok(error instanceof FsError && error.code === 'ENOSPC', String(error));
          }
        }
        if (step % 100 === 99) vol.journal.flushAll();
      }
      for (const [ino, attributes] of model) {
        for (const [name, content] of attributes) assert.deepEqual(get(vol, ino, name), content);
      }
      closeAndCheckTwice(fixture);
    }
  }).timeout(60_000);

  it('are read, and freed, in the form that Lustre wrote', () => {
    const fixture = open(FORMATS[0].args);
    const { vol } = fixture;
    set(vol, A, 'user.v', value(9000));
    const [ino] = valueInodes(vol, A);
    const { generation } = Inode.load(vol, A);
    edit(vol, ino, (inode) => {
      inode.set('i_generation', generation);
      inode.setMtime({ seconds: A, nanoseconds: 0 });
      // Not a hash and not a count: times.
      inode.setRaw32('i_atime', 1_200_000_000);
      inode.setRaw32('i_ctime', 1_200_000_000);
      inode.setRaw32('i_version', 0);
    });
    edit(vol, A, (inode) => {
      XATTR_ENTRY.e_hash.set(inode.block.view, inode.extraEnd + 4, 0);
      inode.addBlocks(-3);
    });
    assert.deepEqual(get(vol, A, 'user.v'), value(9000));
    closeAndCheckTwice(fixture);
    const again = reopen(fixture.image);
    set(again, A, 'user.v', value(8000, 2));
    assert.equal(Inode.load(again, ino).mode, 0);
    assert.deepEqual(get(again, A, 'user.v'), value(8000, 2));
    closeAndCheckTwice({ image: fixture.image, vol: again });
  });
});

describe('attribute blocks', () => {
  const ARGS = ['-b', '1024'];

  it('are shared by inodes with equal attributes, and left by those that change', () => {
    const fixture = open(ARGS);
    const { vol } = fixture;
    for (const ino of [A, B, C]) {
      set(vol, ino, 'user.a', value(300));
      set(vol, ino, 'user.b', value(200, 2));
    }
    const block = Inode.get(vol, A).fileAcl;
    assert.deepEqual(
      [B, C].map((ino) => Inode.get(vol, ino).fileAcl),
      [block, block],
    );
    assert.equal(xattrBlockReferences(vol, block), 3);
    set(vol, B, 'user.a', value(300, 3));
    assert.deepEqual(get(vol, A, 'user.a'), value(300));
    assert.equal(xattrBlockReferences(vol, block), 2);
    removeXattr(vol, A, bytes('user.a'));
    removeXattr(vol, A, bytes('user.b'));
    assert.equal(Inode.get(vol, A).fileAcl, 0);
    assert.equal(xattrBlockReferences(vol, block), 1);
    closeAndCheckTwice(fixture);
  });

  it('are not shared when that is turned off', () => {
    const fixture = open(ARGS, 3, { sharesXattrs: false });
    const { vol } = fixture;
    for (const ino of [A, B]) set(vol, ino, 'user.a', value(300));
    assert.notEqual(Inode.get(vol, A).fileAcl, Inode.get(vol, B).fileAcl);
    closeAndCheckTwice(fixture);
  });

  it('have at most 1024 inodes', () => {
    const fixture = open(ARGS, 1100);
    const { vol } = fixture;
    for (let i = 0; i < 1100; i++) set(vol, FIRST_FILE + i, 'user.a', value(300));
    const block = Inode.get(vol, A).fileAcl;
    assert.equal(xattrBlockReferences(vol, block), 1024);
    const other = Inode.get(vol, FIRST_FILE + 1099).fileAcl;
    assert.equal(xattrBlockReferences(vol, other), 1100 - 1024);
    closeAndCheckTwice(fixture);
  }).timeout(20_000);

  it('are announced in a superblock that knew of none', () => {
    const fixture = open([...ARGS, '-O', '^ext_attr']);
    set(fixture.vol, A, 'user.a', value(300));
    closeAndCheckTwice(fixture);
    assert.deepEqual(get(reopen(fixture.image), A, 'user.a'), value(300));
  });

  it('that were begun by what failed are not offered', () => {
    const fixture = open(ARGS);
    const { vol } = fixture;
    assert.throws(() =>
      vol.journal.run(20, () => {
        set(vol, A, 'user.a', value(300));
        throw new FsError('EIO', 'something else');
      }),
    );
    set(vol, B, 'user.other', value(10));
    set(vol, C, 'user.a', value(300));
    assert.equal(get(vol, A, 'user.a'), null);
    assert.deepEqual(get(vol, C, 'user.a'), value(300));
    closeAndCheckTwice(fixture);
  });
});

describe('an attribute value that is not what its entry says', () => {
  /** `A` has a large value; returns its inode's number. */
  function withValue(): Fixture & { ino: number } {
    const fixture = open(FORMATS[0].args);
    set(fixture.vol, A, 'user.v', value(9000));
    return { ...fixture, ino: valueInodes(fixture.vol, A)[0] };
  }

  const pointAt = (vol: Volume, ino: number) =>
    edit(vol, A, (inode) => XATTR_ENTRY.e_value_inum.set(inode.block.view, inode.extraEnd + 4, ino));

  const CASES: { name: string; spoil: (vol: Volume, ino: number) => void; finding: RegExp }[] = [
    { name: 'the entry names its own inode', spoil: (vol) => pointAt(vol, A), finding: /keeps its own attribute/ },
    { name: 'the entry names the root', spoil: (vol) => pointAt(vol, 2), finding: /a value in inode 2/ },
    { name: 'the entry names the journal', spoil: (vol) => pointAt(vol, 8), finding: /a value in inode 8/ },
    { name: 'the entry names a file', spoil: (vol) => pointAt(vol, B), finding: /not of that kind/ },
    { name: 'the entry names a free inode', spoil: (vol) => pointAt(vol, 40), finding: /is free/ },
    {
      name: 'the entry names an inode behind the last',
      spoil: (vol) => pointAt(vol, vol.geometry.inodesCount + 1),
      finding: /a value in inode/,
    },
    {
      name: 'the inode is a directory',
      spoil: (vol, ino) => edit(vol, ino, (inode) => inode.setMode(0o040755)),
      finding: /not of that kind/,
    },
    {
      name: 'the inode has attributes that name it',
      spoil: (vol, ino) =>
        edit(vol, ino, (inode) => {
          const from = Inode.load(vol, A);
          inode.block.bytes.set(
            (from.block.bytes as Uint8Array).subarray(from.extraEnd, from.extraEnd + 32),
            inode.extraEnd,
          );
        }),
      finding: /has attributes itself/,
    },
    {
      name: 'the inode has an attribute block',
      spoil: (vol, ino) => edit(vol, ino, (inode) => inode.setFileAcl(100)),
      finding: /has attributes itself/,
    },
    {
      name: 'its size is another',
      spoil: (vol, ino) => edit(vol, ino, (inode) => inode.setSizeBytes(2 ** 40)),
      finding: /its entry says 9000/,
    },
    {
      name: 'its hash is another',
      spoil: (vol, ino) => edit(vol, ino, (inode) => inode.setRaw32('i_atime', 1)),
      finding: /does not have its hash/,
    },
    {
      name: "the entry's hash is another",
      spoil: (vol) => edit(vol, A, (inode) => XATTR_ENTRY.e_hash.set(inode.block.view, inode.extraEnd + 4, 1)),
      finding: /another hash/,
    },
    {
      name: 'its blocks are missing',
      spoil: (vol, ino) => edit(vol, ino, (inode) => inode.block.view.setUint16(inode.iBlockBase + 2, 0, true)),
      finding: /block 0 is missing/,
    },
  ];

  for (const { name, spoil, finding } of CASES) {
    it(`is noticed: ${name}`, () => {
      const { vol, ino } = withValue();
      spoil(vol, ino);
      const isFinding = (error: unknown) => error instanceof CorruptionError && finding.test(error.message);
      assert.throws(() => get(vol, A, 'user.v'), isFinding);
      assert.ok(
        checkFilesystem(vol, { unmounted: false }).findings.some((found) => finding.test(found.message)),
        'the check finds it',
      );
      // The file goes all the same, as with the kernel.
      remove(vol, A);
      assert.equal(Inode.load(vol, A).mode, 0);
    });
  }

  it('is noticed by the check: counts of references and links', () => {
    const { vol, ino } = withValue();
    const found = () => checkFilesystem(vol, { unmounted: false }).findings.map(({ message }) => message);
    assert.deepEqual(found(), []);
    edit(vol, ino, (inode) => inode.setRaw32('i_version', 3));
    assert.deepEqual(found(), [`attribute value at inode ${ino}: 3 references, 1 entries refer to it`]);
    edit(vol, ino, (inode) => inode.setRaw32('i_version', 0));
    assert.throws(() => removeXattr(vol, A, bytes('user.v')), CorruptionError);
    edit(vol, ino, (inode) => inode.setRaw32('i_version', 1));
    edit(vol, A, (inode) => {
      inode.block.bytes.fill(0, inode.extraEnd, inode.end);
      inode.addBlocks(-3);
    });
    assert.deepEqual(found(), [`attribute value at inode ${ino}: no entry refers to it`]);
  });

  it('is no file to anyone', () => {
    const { vol, ino } = withValue();
    assert.ok(Inode.load(vol, ino).hasFlag(EXT4_EA_INODE_FL));
    assert.throws(() => Inode.get(vol, ino), CorruptionError);
    assert.throws(
      () => namei.byHandle(vol, ino),
      (error) => error instanceof FsError && error.code === 'ESTALE',
    );
    assert.throws(() => set(vol, ino, 'user.a', value(3)), CorruptionError);
  });

  it('leaves the values of others alone when it goes', () => {
    const fixture = withValue();
    const { vol, image } = fixture;
    set(vol, B, 'user.v', value(9000));
    remove(vol, A);
    assert.deepEqual(get(vol, B, 'user.v'), value(9000));
    closeVolume(vol);
    assert.equal(fsck(image).code, 0);
  });
});

describe('names of attributes', () => {
  it('are those that ext4 has handlers for: others are not stored, shown or removed', () => {
    const { vol } = open(FORMATS[0].args);
    for (const name of ['system.data', 'system.foo', 'system.posix_acl_foo', 'system.richacl', 'other.x', 'x']) {
      for (const use of [() => set(vol, A, name, value(3)), () => get(vol, A, name)])
        assert.throws(use, (error) => error instanceof FsError && error.code === 'EOPNOTSUPP', name);
    }
    for (const name of ['user.', 'trusted.', 'security.'])
      assert.throws(
        () => set(vol, A, name, value(3)),
        (error) => error instanceof FsError && error.code === 'EINVAL',
        name,
      );
  });
});
