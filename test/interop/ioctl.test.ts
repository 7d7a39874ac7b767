/** What chattr, lsattr, fstrim and their relatives ask for through ioctl(2). */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { codeOf } from '../support/code-of.js';
import { fsckFile, makeImageFile, run } from '../support/mke2fs.js';
import { EXT4D, Mount, requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

function mounted(
  options: string,
  use: (at: (path: string) => string, image: string) => void | Promise<void>,
  mkfs: string[] = [],
): Promise<void> {
  return withMountpoint(async (scratch, mountpoint) => {
    const image = join(scratch, 'image');
    makeImageFile(image, 64, mkfs);
    await withMount(image, mountpoint, options, () => use((path) => join(mountpoint, path), image));
    const { code, output } = fsckFile(image);
    assert.equal(code, 0, output);
  });
}

const usedBytes = (path: string) => statSync(path).blocks * 512;

describe('ioctl', function () {
  this.timeout(60_000);
  before(function () {
    const asRoot = process.getuid?.() === 0 ? null : 'flags are for root';
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse() ?? asRoot);
  });

  it('chattr sets flags of files and directories, lsattr and the kernel show them', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      const at = (path: string) => join(mountpoint, path);
      const flagsOf = (path: string) =>
        run('lsattr', ['-d', at(path)])
          .output.split(' ')[0]
          .replaceAll('-', '');
      await withMount(image, mountpoint, '', () => {
        writeFileSync(at('file'), 'x');
        mkdirSync(at('d'));
        assert.equal(run('chattr', ['+dAS', at('file')]).output, '');
        assert.equal(run('chattr', ['+DT', at('d')]).output, '');
        assert.equal(run('chattr', ['+i', at('d')]).output, '');
        assert.equal(flagsOf('file'), 'SdAe');
        assert.equal(flagsOf('d'), 'DiTe');
      });
      assert.equal(run('mount', ['-i', '-o', 'loop,ro', image, mountpoint]).output, '');
      try {
        assert.equal(flagsOf('file'), 'SdAe');
        assert.equal(flagsOf('d'), 'DiTe');
      } finally {
        run('umount', [mountpoint]);
      }
      assert.equal(fsckFile(image).code, 0);
    }));

  it('chattr switches extents off and on where the data need not move, and says so where it would have to', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      const at = (path: string) => join(mountpoint, path);
      const contents = new Map<string, Buffer>();
      const write = (name: string, pieces: readonly (readonly [block: number, blocks: number])[]) => {
        const fd = openSync(at(name), 'a');
        closeSync(fd);
        for (const [block, blocks] of pieces) {
          const data = Buffer.alloc(blocks * 4096, `${name} ${block} `);
          run('dd', [`of=${at(name)}`, 'bs=4096', `seek=${block}`, 'conv=notrunc,fsync'], data.toString('latin1'));
        }
        contents.set(name, readFileSync(at(name)));
      };
      const hasExtents = (name: string) => /e/.test(run('lsattr', [at(name)]).output.split(' ')[0]);
      const chattr = (flags: string, name: string) => run('chattr', [flags, at(name)]).output;
      await withMount(image, mountpoint, '', () => {
        write('empty', []);
        write('small', [[0, 12]]);
        write('behind', [[3, 2]]);
        write('long', [[0, 13]]);
        write('pieces', [
          [0, 1],
          [5, 1],
        ]);
        for (const name of ['empty', 'small', 'behind']) {
          assert.equal(chattr('-e', name), '');
          assert.equal(hasExtents(name), false);
        }
        for (const name of ['long', 'pieces']) {
          assert.match(chattr('-e', name), /not supported/);
          assert.equal(hasExtents(name), true);
        }
        // What has no extents grows without.
        for (const name of ['grown', 'scattered', 'deep']) {
          write(name, []);
          assert.equal(chattr('-e', name), '');
        }
        write('grown', [[0, 40]]);
        write(
          'scattered',
          Array.from({ length: 6 }, (_, i) => [i * 3, 1]),
        );
        write('deep', [[2000, 1]]);
        for (const name of ['grown', 'small', 'behind', 'empty']) {
          assert.equal(chattr('+e', name), '');
          assert.equal(hasExtents(name), true);
        }
        for (const name of ['scattered', 'deep']) assert.match(chattr('+e', name), /not supported/);
        // Other flags that come with it are set all the same.
        assert.match(chattr('=i', 'long'), /not supported/);
        assert.match(run('lsattr', [at('long')]).output, /i.*e/);
        assert.match(chattr('=', 'long'), /not supported/);
        assert.equal(chattr('-e', 'behind'), '');
        for (const [name, data] of contents) assert.deepEqual(readFileSync(at(name)), data, name);
      });
      const { code, output } = fsckFile(image);
      assert.equal(code, 0, output);
      assert.equal(run('mount', ['-i', '-o', 'loop,ro', image, mountpoint]).output, '');
      try {
        for (const [name, data] of contents) assert.deepEqual(readFileSync(at(name)), data, `${name} for the kernel`);
        assert.equal(hasExtents('behind'), false);
        assert.equal(hasExtents('grown'), true);
      } finally {
        run('umount', [mountpoint]);
      }
    }));

  it('an immutable file cannot be changed, an append-only one only appended to', () =>
    mounted('', (at) => {
      for (const name of ['fixed', 'log']) writeFileSync(at(name), 'start');
      mkdirSync(at('d'));
      run('chattr', ['+i', at('fixed')]);
      run('chattr', ['+a', at('log')]);
      run('chattr', ['+a', at('d')]);
      for (const change of [
        () => writeFileSync(at('fixed'), 'x'),
        () => appendFileSync(at('fixed'), 'x'),
        () => truncateSync(at('fixed'), 0),
        () => unlinkSync(at('fixed')),
        () => renameSync(at('fixed'), at('other')),
        () => linkSync(at('fixed'), at('other')),
        () => writeFileSync(at('log'), 'x'),
        () => truncateSync(at('log'), 0),
        () => unlinkSync(at('log')),
      ]) {
        assert.equal(codeOf(change), 'EPERM', change.toString());
      }
      appendFileSync(at('log'), ' and more');
      assert.equal(readFileSync(at('log'), 'utf8'), 'start and more');
      writeFileSync(at('d/new'), '');
      assert.equal(
        codeOf(() => unlinkSync(at('d/new'))),
        'EPERM',
      );
      run('chattr', ['-i', at('fixed')]);
      run('chattr', ['-R', '-a', at('log'), at('d')]);
      for (const name of ['fixed', 'log', 'd/new']) unlinkSync(at(name));
    }));

  it('times of an immutable file stay, those of an append-only file can only become now', () =>
    mounted('', (at) => {
      for (const name of ['fixed', 'log']) writeFileSync(at(name), 'x');
      assert.equal(run('chattr', ['+i', at('fixed')]).output, '');
      assert.equal(run('chattr', ['+a', at('log')]).output, '');
      const now = (name: string) => run('touch', [at(name)]).code;
      const then = (name: string) => codeOf(() => utimesSync(at(name), 1, 1));
      assert.deepEqual([now('fixed'), then('fixed')], [1, 'EPERM']);
      assert.deepEqual([now('log'), then('log')], [0, 'EPERM']);
      run('chattr', ['-ia', at('fixed'), at('log')]);
      assert.equal(then('fixed'), 'done');
    }));

  it('chattr +j moves the data of a file into the log, and back', () =>
    mounted('', (at, image) => {
      const content = Buffer.from('through the log '.repeat(3000));
      writeFileSync(at('file'), 'ordered');
      assert.equal(run('sync', [at('file')]).output, '');
      assert.equal(run('chattr', ['+j', at('file')]).output, '');
      writeFileSync(at('file'), content);
      assert.equal(run('sync', [at('file')]).output, '');
      assert.match(run(EXT4D, ['journal', image]).output, /file data|\/file/);
      assert.equal(run('chattr', ['-j', at('file')]).output, '');
      assert.ok(readFileSync(at('file')).equals(content));
      writeFileSync(at('file'), content.subarray(5));
      assert.equal(run('chattr', ['+j', at('file')]).output, '');
      appendFileSync(at('file'), 'end');
      run('sh', ['-c', 'echo 1 > /proc/sys/vm/drop_caches']);
      assert.ok(readFileSync(at('file')).equals(Buffer.concat([content.subarray(5), Buffer.from('end')])));
    }));

  it('only the owner changes flags, and only root those that bind others', () =>
    mounted('allow_other', (at) => {
      run('chmod', ['777', at('')]);
      const scratch = join(at(''), '..');
      run('chmod', ['755', scratch]);
      const as = (uid: number, ...command: string[]) =>
        run('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', ...command]).output;
      assert.equal(as(1234, 'touch', at('theirs')), '');
      assert.equal(as(1234, 'chattr', '+d', at('theirs')), '');
      assert.match(as(1234, 'chattr', '+i', at('theirs')), /not permitted/);
      assert.match(as(999, 'chattr', '+d', at('theirs')), /not permitted|denied/);
    }));

  it('the owner of a file may change its project, but nobody that of one that stays immutable', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32, ['-O', 'quota,project', '-E', 'quotatype=prjquota']);
      run('chmod', ['755', scratch]);
      await withMount(image, mountpoint, 'allow_other,default_permissions', () => {
        const path = join(mountpoint, 'file');
        const project = () => run('lsattr', ['-p', path]).output.trim().split(' ')[0];
        writeFileSync(path, 'x');
        run('chown', ['1234', path]);
        const as = (uid: number, ...command: string[]) =>
          run('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', ...command]).output;
        assert.equal(as(1234, 'chattr', '-p', '7', path), '');
        assert.equal(project(), '7');
        assert.match(as(999, 'chattr', '-p', '8', path), /not permitted|denied/);
        assert.equal(run('chattr', ['+i', path]).output, '');
        assert.match(run('chattr', ['-p', '9', path]).output, /not permitted/);
        assert.equal(project(), '7');
        assert.equal(run('chattr', ['-i', path]).output, '');
      });
      const { code, output } = fsckFile(image);
      assert.equal(code, 0, output);
    }));

  it('the label can be read and set', function () {
    requireOrSkip(this, run('sh', ['-c', 'command -v xfs_io']).code === 0 ? null : 'xfs_io is missing (xfsprogs)');
    return withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32, ['-L', 'before']);
      await withMount(image, mountpoint, '', () => {
        assert.match(run('xfs_io', ['-c', 'label', mountpoint]).output, /label = "before"/);
        assert.match(run('xfs_io', ['-c', 'label -s after', mountpoint]).output, /label = "after"/);
        assert.match(run('blkid', ['-p', image]).output, /LABEL="after"/, 'others see it while it is mounted');
        assert.match(
          run('xfs_io', ['-c', 'label -s much-too-long-a-label', mountpoint]).output,
          /Invalid argument|label/,
        );
      });
      assert.match(run('dumpe2fs', ['-h', image]).output, /volume name:\s+after/);
      assert.equal(fsckFile(image).code, 0);
    });
  });

  it('a shutdown commits what has happened; then nothing more is written and everything fails, and the next mount recovers', function () {
    requireOrSkip(this, run('sh', ['-c', 'command -v xfs_io']).code === 0 ? null : 'xfs_io is missing (xfsprogs)');
    return withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      const mount = await Mount.start(image, mountpoint, 'commit=600');
      try {
        writeFileSync(join(mountpoint, 'synced'), 'synced');
        assert.equal(run('sync', [join(mountpoint, 'synced'), mountpoint]).output, '');
        mkdirSync(join(mountpoint, 'made'));
        const asked = run('xfs_io', ['-x', '-c', 'shutdown', mountpoint]);
        assert.equal(asked.code, 0, asked.output);
        const before = readFileSync(image);
        assert.equal(
          codeOf(() => writeFileSync(join(mountpoint, 'more'), '')),
          'EIO',
        );
        await mount.unmount();
        assert.ok(readFileSync(image).equals(before), 'nothing was written');
      } finally {
        mount.cleanUp();
      }
      await withMount(image, mountpoint, '', () => {
        assert.equal(readFileSync(join(mountpoint, 'synced'), 'utf8'), 'synced');
        assert.ok(statSync(join(mountpoint, 'made')).isDirectory());
      });
      assert.equal(fsckFile(image).code, 0);
    });
  });
});

describe('discard', function () {
  this.timeout(60_000);
  before(function () {
    const asRoot = process.getuid?.() === 0 ? null : 'trimming is for root';
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse() ?? asRoot);
  });
  const MIB = 1 << 20;

  it('fstrim gives the space of removed files back, and touches nothing else', () =>
    mounted('', (at, image) => {
      const kept = Buffer.alloc(3 * MIB, 'kept');
      writeFileSync(at('kept'), kept);
      writeFileSync(at('gone'), Buffer.alloc(30 * MIB, 'gone'));
      assert.equal(run('sync', [at('kept'), at('gone')]).output, '');
      const full = usedBytes(image);
      rmSync(at('gone'));
      assert.equal(run('sync', [at('')]).output, '');
      assert.match(run('fstrim', ['-v', at('')]).output, /trimmed/);
      assert.ok(usedBytes(image) < full - 28 * MIB, `${usedBytes(image)} of ${full} bytes`);
      run('sh', ['-c', 'echo 1 > /proc/sys/vm/drop_caches']);
      assert.ok(readFileSync(at('kept')).equals(kept));
    }));

  it('fstrim beyond the end of the filesystem is an error', () =>
    mounted('', (at) => {
      assert.match(run('fstrim', ['-o', '1T', at('.')]).output, /Invalid argument/);
      assert.match(run('fstrim', ['-l', '10', at('.')]).output, /Invalid argument/);
    }));

  it('fstrim leaves alone what a transaction freed that has not committed', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 64);
      const content = Buffer.alloc(10 * MIB, 'still there');
      const mount = await Mount.start(image, mountpoint, 'commit=600');
      try {
        writeFileSync(join(mountpoint, 'file'), content);
        assert.equal(run('sync', [join(mountpoint, 'file'), mountpoint]).output, '');
        unlinkSync(join(mountpoint, 'file'));
        assert.equal(run('fstrim', [mountpoint]).output, '');
        await mount.kill();
      } finally {
        mount.cleanUp();
      }
      await withMount(image, mountpoint, '', () => {
        assert.ok(readFileSync(join(mountpoint, 'file')).equals(content), 'the crash gave it back');
      });
    }));

  it('-o discard gives space back as files go', () =>
    mounted('discard', (at, image) => {
      writeFileSync(at('gone'), Buffer.alloc(30 * MIB, 'gone'));
      assert.equal(run('sync', [at('gone')]).output, '');
      const full = usedBytes(image);
      rmSync(at('gone'));
      assert.equal(run('sync', [at('')]).output, '');
      writeFileSync(at('next'), 'x');
      assert.equal(run('sync', [at('next')]).output, '');
      assert.ok(usedBytes(image) < full - 28 * MIB, `${usedBytes(image)} of ${full} bytes`);
    }));
});
