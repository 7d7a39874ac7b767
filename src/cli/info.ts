/** `ext4d info`: what an image is, how ext4d mounts it, and what it needs. */
import { FileDevice } from '../block/file-device.js';
import type { Partition } from '../block/partition-table.js';
import { SUPERBLOCK } from '../ext4/format/superblock.js';
import { looksLikeExt4 } from '../ext4/open.js';
import { ImageExit } from './exit-codes.js';
import { count, parseImageArguments, print, withImage } from './image-command.js';
import { type ImageFacts, imageFacts, SUPPORT_TEXT } from './image-facts.js';
import { type Part, type Place, partAt, partitionName } from './partitions.js';

/** Exit code: 0, 4 not a readable ext4 superblock, 8 operational error, 16 usage. */
export function runInfo(args: readonly string[]): number {
  const parsed = parseImageArguments('info', args);
  if (parsed === null) return ImageExit.USAGE;
  const { image, place, flags } = parsed;
  const disk = (partitions: readonly Partition[]) => tellPartitions(image, partitions, flags.json);
  return withImage(parsed, { access: 'look', json: flags.json, disk }, (device) => {
    const facts = imageFacts(image, device);
    if (flags.json) print(JSON.stringify(facts));
    else printFacts(facts, place === undefined ? null : { ...place, ...partAt(image, place) });
    return ImageExit.OK;
  });
}

/** "5.2 MiB": three digits, rounded down, so that nothing seems fuller or larger than it is. */
export function humanBytes(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  let n = bytes;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  const digits = unit === 0 || n >= 100 || Number.isInteger(n) ? 0 : 1;
  return `${(Math.floor(n * 10 ** digits) / 10 ** digits).toFixed(digits)} ${units[unit]}`;
}

function tellPartitions(image: string, partitions: readonly Partition[], json: boolean): number {
  const found = partitions.map((partition) => ({ ...partition, ext4: holdsExt4(image, partition) }));
  if (json) {
    print(JSON.stringify({ image, partitions: found }));
    return ImageExit.OK;
  }
  print(`${image}: a disk with ${count(partitions.length, 'partition')}\n`);
  for (const partition of found) {
    const { startBytes, sizeBytes, uuid, ext4 } = partition;
    print(
      `  ${`part=${partitionName(partition)}`.padEnd(24)}${humanBytes(sizeBytes).padStart(10)} from byte ${startBytes}` +
        `${ext4 ? ', ext2/3/4' : ''}${uuid === '' ? '' : `, ${uuid}`}`,
    );
  }
  const { number } = found.find(({ ext4 }) => ext4) ?? found[0];
  print(`\nnext: ext4d info --part ${number} ${image}\n      ext4d mount -o part=${number} ${image} MOUNTPOINT`);
  return ImageExit.OK;
}

function holdsExt4(image: string, { startBytes, sizeBytes }: Partition): boolean {
  const whole = FileDevice.open(image, { readOnly: true, noLock: true });
  try {
    if (startBytes + SUPERBLOCK.SIZE > whole.sizeBytes) return false;
  } finally {
    whole.close();
  }
  const part = { offsetBytes: startBytes, sizeLimitBytes: sizeBytes };
  const device = FileDevice.open(image, { readOnly: true, noLock: true, ...part });
  try {
    return looksLikeExt4(device);
  } finally {
    device.close();
  }
}

const COLUMN = 14;
const WIDTH = 100;

/** One fact; what is too long for a line goes on below. */
function line(name: string, value: string): void {
  let text = `${name}:`.padEnd(COLUMN);
  for (const word of value.split(' ')) {
    if (text.length + word.length > WIDTH && text.trimEnd().length > COLUMN) {
      print(text.trimEnd());
      text = ' '.repeat(COLUMN);
    }
    text += `${word} `;
  }
  print(text.trimEnd());
}

const percent = (part: number, whole: number) => `${whole === 0 ? 0 : Math.round((100 * part) / whole)} %`;
const moment = (iso: string | null) => (iso === null ? 'never' : iso.replace('T', ' ').replace('.000Z', ' UTC'));

function printFacts(facts: ImageFacts, place: (Place & Part) | null): void {
  const { superblock: sb, mount, type } = facts;
  const why = mount.reasons.length === 0 ? '' : `: ${mount.reasons.join('; ')}`;
  line('image', facts.image);
  line('type', `${type}${sb.made === null ? '' : `, made ${moment(sb.made)}`}`);
  if (sb.label !== '') line('label', sb.label);
  line('uuid', sb.uuid);
  line('mount', `${mount.as}${why}`);
  line('state', stateText(facts));
  print('');
  const bytes = (blocks: number) => humanBytes(blocks * sb.blockSize);
  const clusters = sb.clusterSize === sb.blockSize ? '' : `, in clusters of ${sb.clusterSize}`;
  const used = sb.blocks - sb.freeBlocks;
  line(
    'size',
    `${humanBytes(sb.sizeBytes)} (${sb.sizeBytes} bytes): ${sb.blocks} blocks of ${sb.blockSize} bytes${clusters}`,
  );
  line('used', `${bytes(used)}, ${percent(used, sb.blocks)}`);
  line('free', `${bytes(sb.freeBlocks)}, ${bytes(Math.min(sb.reservedBlocks, sb.freeBlocks))} of it reserved`);
  line('inodes', `${sb.inodes - sb.freeInodes} used, ${sb.freeInodes} free, of ${sb.inodeSize} bytes`);
  print('');
  line('journal', journalText(facts));
  line('orphans', orphansText(facts));
  line('mounted', `${moment(sb.lastMount)}${sb.lastMountedOn === '' ? '' : ` on ${sb.lastMountedOn}`}`);
  line('written', moment(sb.lastWrite));
  line('checked', `${moment(sb.lastCheck)}, ${count(sb.mounts, 'mount')} since`);
  if (sb.firstError !== null && sb.lastError !== null) {
    line('first error', errorText(sb.firstError));
    line('last error', errorText(sb.lastError));
  }
  print('');
  for (const support of Object.values(SUPPORT_TEXT)) {
    const names = facts.features.filter((feature) => feature.support === support).map(({ name }) => name);
    if (names.length > 0) line(support, names.join(' '));
  }
  const next = nextSteps(facts, place);
  if (next.length > 0) print('');
  for (const step of next) print(`next: ${step}`);
}

function stateText({ superblock: sb, journal }: ImageFacts): string {
  const state = journal.state === 'needs recovery' ? 'not closed' : sb.valid ? 'clean' : 'not clean';
  if (!sb.errors && sb.errorCount === 0) return state;
  return `${state}, with errors${sb.errorCount === 0 ? '' : ` (${sb.errorCount} recorded)`}`;
}

function journalText({ journal }: ImageFacts): string {
  if (journal.reason !== undefined) return `${journal.state}: ${journal.reason}`;
  if (journal.state === 'external') return `on another device, with the UUID ${journal.uuid}`;
  if (journal.sizeBytes === undefined) return 'none: after a crash it needs e2fsck';
  const { state, transactions, blocks, fastCommits, sizeBytes, features, inode, fastCommitBlocks, errno } = journal;
  const onTop = fastCommits === 0 ? '' : ` and ${count(fastCommits, 'fast commit')}`;
  const work =
    state === 'needs recovery'
      ? `${count(transactions, 'transaction')} (${count(blocks, 'block')})${onTop} to replay`
      : state === 'discarded'
        ? 'clean; old transactions in it are void'
        : state;
  const fast = fastCommitBlocks === 0 ? '' : `, ${fastCommitBlocks} blocks for fast commits`;
  const names = features.length === 0 ? '' : `, ${features.join(' ')}`;
  const place = inode === 0 ? 'on another device' : `inode ${inode}`;
  const error = errno === 0 ? '' : `, error ${errno} recorded`;
  return `${work}${error}; ${humanBytes(sizeBytes)} in ${place}${fast}${names}`;
}

function orphansText({ orphans }: ImageFacts): string {
  if (orphans === null) return 'unknown';
  const { list, file } = orphans;
  if (list.length + file.length === 0) return 'none';
  return `${count(list.length + file.length, 'file')} to be removed or truncated at the next mount`;
}

function errorText(error: NonNullable<ImageFacts['superblock']['firstError']>): string {
  const inode = error.inode === 0 ? '' : `, inode ${error.inode}`;
  const block = error.block === 0 ? '' : `, block ${error.block}`;
  return `${moment(error.time)} in ${error.where || '?'}${error.line === 0 ? '' : `:${error.line}`}${inode}${block}`;
}

function nextSteps({ image, superblock: sb, journal, mount }: ImageFacts, place: (Place & Part) | null): string[] {
  const steps: string[] = [];
  const check = `e2fsck -f ${place === null ? image : `'${image}?offset=${place.offsetBytes}'`}`;
  const option = place === null ? '' : 'part' in place ? `--part ${place.part} ` : `--offset ${place.offsetBytes} `;
  if (mount.as === 'refused')
    steps.push("the kernel's ext4 may mount it: mount -o loop; or take the feature off with tune2fs -O");
  if (journal.state === 'needs recovery') steps.push(`mount it, or: ext4d replay ${option}${image}`);
  if (journal.state === 'corrupt' || journal.state === 'unsupported')
    steps.push(`the log cannot be replayed: ${check}`);
  if (sb.errors || sb.errorCount > 0) steps.push(`errors are recorded: ${check}`);
  else if (!sb.valid && journal.state !== 'needs recovery') steps.push(`it was not unmounted: ${check}`);
  return steps;
}
