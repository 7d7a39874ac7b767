/**
 * `npm run deb`: builds ext4d_VERSION_ARCH.deb, here or in `--into DIR`, from what `npm pack` would take and from the files in
 * debian/. Needs dpkg-dev, not debhelper. `--built`: everything is built already. debian/rules runs it as well.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const debian = join(root, 'debian');
const staging = join(debian, 'ext4d');
const substvars = join(debian, 'substvars');
const { values } = parseArgs({ options: { into: { type: 'string' }, built: { type: 'boolean' } } });
const destination = resolve(values.into ?? process.env.INIT_CWD ?? '.');

function run(command, args) {
  const { status, stdout, error } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 2],
  });
  if (status === 0) return stdout;
  const why = error?.code === 'ENOENT' ? 'is missing: apt install dpkg-dev' : `failed: ${args.join(' ')}`;
  process.stderr.write(`build-deb: ${command} ${why}\n`);
  process.exit(1);
}

/** Lines of one of debhelper's files: words, without comments. */
function linesOf(name) {
  const lines = readFileSync(join(debian, name), 'utf8').split('\n');
  return lines.filter((line) => /^[^#]/.test(line)).map((line) => line.trim().split(/\s+/));
}

function put(from, to) {
  mkdirSync(dirname(join(staging, to)), { recursive: true });
  cpSync(join(root, from), join(staging, to), { recursive: true });
}

/** Without name and time, so that the same source makes the same package. */
function putCompressed(from, to) {
  mkdirSync(dirname(join(staging, to)), { recursive: true });
  writeFileSync(join(staging, `${to}.gz`), gzipSync(readFileSync(join(root, from)), { level: 9 }));
}

function* filesBelow(directory) {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (entry.isFile()) yield path;
  }
}

if (!values.built) run(process.execPath, [join(root, 'scripts', 'prepack.mjs')]);
rmSync(staging, { recursive: true, force: true });

const [packed] = JSON.parse(run('npm', ['pack', '--dry-run', '--json', '--ignore-scripts']));
// Those have their own places on a Debian system.
const elsewhere = /^(docs\/|man\/|README\.md$|LICENSE$|CHANGELOG\.md$)/;
for (const { path } of packed.files) if (!elsewhere.test(path)) put(path, join('usr/lib/ext4d', path));
for (const [from, to] of linesOf('install')) put(from, join(to, basename(from)));
for (const [page] of linesOf('manpages')) putCompressed(page, join('usr/share/man/man8', basename(page)));
putCompressed('CHANGELOG.md', 'usr/share/doc/ext4d/changelog');
put('debian/copyright', 'usr/share/doc/ext4d/copyright');
for (const [target, link] of linesOf('links')) {
  mkdirSync(dirname(join(staging, link)), { recursive: true });
  symlinkSync(relative(dirname(join('/', link)), join('/', target)), join(staging, link));
}
for (const file of filesBelow(staging))
  chmodSync(file, /\/usr\/lib\/ext4d\/bin\/[^.]+(\.fuse\.ext4d)?$/.test(file) ? 0o755 : 0o644);

const control = join(staging, 'DEBIAN');
const sums = [...filesBelow(staging)].map((file) => {
  const sum = createHash('md5').update(readFileSync(file)).digest('hex');
  return `${sum}  ${relative(staging, file)}\n`;
});
mkdirSync(control);
writeFileSync(join(control, 'md5sums'), sums.sort().join(''));
for (const name of ['postinst', 'prerm', 'postrm']) {
  cpSync(join(debian, name), join(control, name));
  chmodSync(join(control, name), 0o755);
}
rmSync(substvars, { force: true });
const addon = [...filesBelow(staging)].find((file) => file.endsWith('.node'));
run('dpkg-shlibdeps', [`-T${substvars}`, `-e${addon}`, `-S${staging}`]);
run('dpkg-gencontrol', ['-pext4d', `-P${staging}`, `-T${substvars}`]);
chmodSync(join(control, 'control'), 0o644);
mkdirSync(destination, { recursive: true });
process.stdout.write(run('dpkg-deb', ['--root-owner-group', '--build', staging, destination]));
rmSync(staging, { recursive: true });
rmSync(substvars);
// For dpkg-buildpackage only, which says what to build.
if (!values.built && existsSync(join(debian, 'files'))) rmSync(join(debian, 'files'));
