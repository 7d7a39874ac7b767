/** `npm run deb`: a Debian package whose contents run from wherever they are unpacked. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fsckFile, makeImageFile, run, scratchDirectory } from '../support/mke2fs.js';
import { EXT4D, requireOrSkip, skip, whyNoFuse } from '../support/server.js';

const ROOT = dirname(dirname(EXT4D));
const TOOLS = ['dpkg-deb', 'dpkg-gencontrol', 'dpkg-shlibdeps'];

describe('the Debian package', function () {
  this.timeout(180_000);
  const scratch = scratchDirectory();
  const unpacked = join(scratch, 'unpacked');
  let fields: Record<string, string> = {};

  before(function () {
    const missing = TOOLS.filter((tool) => spawnSync(tool, ['--version']).status !== 0);
    // Who tests elsewhere than on Debian has no use for it.
    if (missing.length > 0 && !existsSync('/etc/debian_version'))
      skip(this as unknown as Mocha.Context, 'neither Debian nor its packaging tools');
    requireOrSkip(this as unknown as Mocha.Context, missing.length === 0 ? null : `${missing.join(', ')} missing`);
    const { code, output } = run(process.execPath, [join(ROOT, 'scripts', 'build-deb.mjs'), '--into', scratch]);
    assert.equal(code, 0, output);
    const [name] = readdirSync(scratch).filter((file) => file.endsWith('.deb'));
    assert.equal(run('dpkg-deb', ['-x', join(scratch, name), unpacked]).code, 0);
    assert.equal(run('dpkg-deb', ['-e', join(scratch, name), join(scratch, 'control')]).code, 0);
    const lines = readFileSync(join(scratch, 'control', 'control'), 'utf8').split('\n');
    fields = Object.fromEntries(lines.filter((line) => /^\w/.test(line)).map((line) => line.split(/: (.*)/, 2)));
  });

  after(() => rmSync(scratch, { recursive: true, force: true }));

  it('has the version of the npm package, and asks for node and fuse3', () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    assert.equal(fields.Version, version);
    assert.match(fields.Depends, /\bnodejs \(>= 20\)/);
    assert.match(fields.Depends, /\bfuse3\b/);
    assert.match(fields.Depends, /\blibc6\b/);
  });

  it('mounts, is written to, unmounts, and e2fsck finds nothing', function () {
    requireOrSkip(this, whyNoFuse());
    const command = join(unpacked, 'usr/sbin/ext4d');
    const image = join(scratch, 'image');
    const mountpoint = join(scratch, 'mnt');
    makeImageFile(image, 32);
    mkdirSync(mountpoint);
    for (const mount of [[command, 'mount'], [join(unpacked, 'usr/sbin/mount.fuse.ext4d')]]) {
      assert.deepEqual(run(process.execPath, [...mount, image, mountpoint]), { code: 0, output: '' });
      try {
        writeFileSync(join(mountpoint, 'file'), 'content', { flush: true });
      } finally {
        assert.deepEqual(run(command, ['umount', mountpoint]), { code: 0, output: '' });
      }
    }
    const { code, output } = fsckFile(image);
    assert.equal(code, 0, output);
  });

  it('brings the manual, and scripts that a shell can read', () => {
    for (const name of ['ext4d', 'mount.fuse.ext4d'])
      assert.ok(existsSync(join(unpacked, `usr/share/man/man8/${name}.8.gz`)), name);
    for (const name of ['postinst', 'prerm', 'postrm']) {
      const script = join(scratch, 'control', name);
      assert.equal(run('sh', ['-n', script]).code, 0);
      // An argument that is none of their business changes nothing.
      assert.deepEqual(run(script, ['abort-upgrade']), { code: 0, output: '' });
    }
    const sums = run('sh', ['-c', `cd '${unpacked}' && md5sum --quiet -c '${scratch}/control/md5sums'`]);
    assert.deepEqual(sums, { code: 0, output: '' });
  });
});
