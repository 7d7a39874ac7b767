/** What `npm pack` makes installs and runs elsewhere: without a compiler, without a download, without this tree. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fsckFile, makeImageFile, run, scratchDirectory } from '../support/mke2fs.js';
import { EXT4D, requireOrSkip, whyNoFuse } from '../support/server.js';

const ROOT = dirname(dirname(EXT4D));

describe('the npm package', function () {
  this.timeout(240_000);
  const scratch = scratchDirectory();
  const home = join(scratch, 'elsewhere');
  const installed = join(home, 'node_modules', 'ext4d');
  const command = join(home, 'node_modules', '.bin', 'ext4d');
  let files: string[] = [];

  function npm(cwd: string, ...args: string[]): string {
    // With a cache of its own, which is empty: nothing can come from there.
    const env = { ...process.env, npm_config_cache: join(scratch, 'cache'), npm_config_update_notifier: 'false' };
    const { status, stdout, stderr } = spawnSync('npm', [...args, '--no-audit', '--no-fund'], {
      cwd,
      env,
      encoding: 'utf8',
      timeout: 200_000,
    });
    assert.equal(status, 0, `npm ${args.join(' ')}: ${stdout}${stderr}`);
    return stdout;
  }

  before(() => {
    const stdout = npm(ROOT, 'pack', '--json', '--pack-destination', scratch);
    const [packed] = JSON.parse(stdout.slice(stdout.indexOf('[')));
    files = packed.files.map(({ path }: { path: string }) => path);
    mkdirSync(home);
    writeFileSync(join(home, 'package.json'), '{"private":true}');
    npm(home, 'install', '--offline', '--ignore-scripts=false', join(scratch, packed.filename));
  });

  after(() => rmSync(scratch, { recursive: true, force: true }));

  it('holds the program, its native part, manual and licence, and no tests', () => {
    for (const file of [
      'bin/ext4d',
      'bin/mount.fuse.ext4d',
      'build/src/cli/main.js',
      'build/src/index.d.ts',
      `native/prebuilt/linux-${process.arch}/ext4d.node`,
      'man/ext4d.8',
      'man/mount.fuse.ext4d.8',
      'LICENSE',
      'README.md',
    ])
      assert.ok(files.includes(file), `${file} is missing`);
    const strangers = files.filter((file) => /(^|\/)(test|bench)\/|\.test\.|^native\/build|\.img$/.test(file));
    assert.deepEqual(
      strangers.filter((file) => !file.startsWith('node_modules/') && file !== 'build/rehearsal.stage'),
      [],
    );
  });

  it('asks for no scripts to be run when it is installed', () => {
    const { scripts } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
    for (const name of ['preinstall', 'install', 'postinstall', 'prepare'])
      assert.equal(scripts[name], undefined, name);
  });

  it('mounts, is written to, unmounts, and e2fsck finds nothing', function () {
    requireOrSkip(this, whyNoFuse());
    const image = join(scratch, 'image');
    const mountpoint = join(scratch, 'mnt');
    makeImageFile(image, 32);
    mkdirSync(mountpoint);
    assert.match(run(command, ['--version']).output, /^ext4d \d/);
    assert.deepEqual(run(command, ['mount', image, mountpoint]), { code: 0, output: '' });
    try {
      writeFileSync(join(mountpoint, 'file'), 'content', { flush: true });
    } finally {
      assert.deepEqual(run(command, ['umount', mountpoint]), { code: 0, output: '' });
    }
    const { code, output } = fsckFile(image);
    assert.equal(code, 0, output);
    assert.match(run('debugfs', ['-R', 'cat /file', image]).output, /^content/);
  });

  it('is imported as a library', () => {
    const image = join(scratch, 'library-image');
    makeImageFile(image, 16);
    const program = join(home, 'program.mjs');
    writeFileSync(
      program,
      `import { openImage } from 'ext4d';
       const image = await openImage(process.argv[2]);
       await image.writeFile('/hello', 'world');
       console.log(await image.readFile('/hello', 'utf8'));
       await image.close();`,
    );
    assert.deepEqual(run(process.execPath, [program, image]), { code: 0, output: 'world\n' });
    assert.equal(fsckFile(image).code, 0);
  });

  it('builds its native part once where the one it came with does not load, and says what is missing', function () {
    const compiler = ['c++', 'g++'].find((name) => spawnSync(name, ['--version']).status === 0);
    const include = [
      join(dirname(dirname(process.execPath)), 'include/node'),
      '/usr/include/node',
      '/usr/local/include/node',
    ];
    const headers = include.some((path) => existsSync(join(path, 'uv.h')));
    requireOrSkip(this, compiler !== undefined && headers ? null : 'a compiler or the headers of node are missing');
    const addon = join(installed, 'native', 'prebuilt', `linux-${process.arch}`, 'ext4d.node');
    const image = join(scratch, 'image');
    makeImageFile(image, 16);
    writeFileSync(addon, 'for another machine');

    const without = spawnSync(process.execPath, [command, 'check', image], {
      encoding: 'utf8',
      env: { PATH: join(scratch, 'nothing') },
    });
    assert.equal(without.status, 8, without.stderr);
    assert.match(without.stderr, /no C\+\+ compiler. Install one: apt install g\+\+/);
    assert.match(without.stderr, /no native addon for this machine/);

    // What it computes does not depend on how well it is compiled; the time that this test takes does.
    const quick = join(scratch, 'quick-c++');
    writeFileSync(quick, `#!/bin/sh\nexec ${compiler} "$@" -O0\n`);
    chmodSync(quick, 0o755);
    const env = { ...process.env, CXX: quick };
    const first = spawnSync(command, ['check', image], { encoding: 'utf8', env });
    assert.equal(first.status, 0, first.stderr);
    assert.match(first.stderr, /^ext4d: building the native addon, once/);
    const second = spawnSync(command, ['check', image], { encoding: 'utf8', env });
    assert.deepEqual([second.status, second.stderr], [0, '']);
    assert.equal(second.stdout, first.stdout);
  });
});
