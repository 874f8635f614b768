import { assert } from '../base/assert.ts';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import {
  BLOCK_BYTES,
  decodeTarHeader,
  isHeaderOnly,
  isZeroBlock,
  type TarHeader,
  TypeFlag,
  tarInvalid,
} from './tar-header.ts';
import {
  applyPax,
  applySparse,
  countNewlines,
  decodePax,
  META_BYTES_MAX,
  type SparseFragment,
  sparseMapLines,
  sparseMapOfData,
  sparseMapOfRecords,
} from './tar-pax.ts';

/** Receives the entries of a tar, in order. What it throws stops the decoder. */
export interface TarSink {
  begin(header: TarHeader): void;
  /** Bytes `from`…`to` of `chunk` belong at `offset` of the file. `chunk` is reused after the call. */
  data(chunk: Buffer, from: number, to: number, offset: number): void;
  end(header: TarHeader): void;
}

/**
 * What the decoder is in the middle of. `meta` is the body of an extended header or long name, `map` a sparse map
 * before the data, `tail` everything after the end-of-archive marker.
 */
type State = 'header' | 'meta' | 'map' | 'body' | 'padding' | 'tail';

/**
 * A synchronous tar reader that is fed chunks cut anywhere. It accepts what Go's archive/tar accepts, because that
 * reader decides what containerd unpacks: v7, ustar, pax, star, GNU long names, base-256 numbers, pax sparse files.
 * It copies no file data. Memory: one header, one extended header (1 MiB) and one sparse map.
 */
export class TarDecoder {
  readonly #sink: TarSink;
  #state: State = 'header';
  /** Bytes of a header, extended header or sparse map that lies across chunks. */
  #partial: Buffer[] = [];
  #partialBytes = 0;
  #zeroBlocks = 0;
  #metaFlag = 0;
  #metaBytes = 0;
  #pax: Map<string, string> | undefined;
  #longName = '';
  #longLink = '';
  #header: TarHeader | undefined;
  /** Bytes of the entry's body that the tar still holds, and zeros behind them. */
  #bodyLeft = 0;
  #paddingLeft = 0;
  #fileOffset = 0;
  /** Lines of a sparse map so far, and in all; 0 while its first line is not there. */
  #mapLines = 0;
  #mapLinesWanted = 0;
  #fragments: SparseFragment[] | undefined;
  #fragmentIndex = 0;

  constructor(sink: TarSink) {
    this.#sink = sink;
  }

  /** Takes the next bytes of the tar. @throws UnpackInvalid, and whatever the sink throws */
  feed(chunk: Buffer): void {
    let offset = 0;
    while (offset < chunk.length) offset = this.#step(chunk, offset);
  }

  /** Says that the tar is over. A missing end-of-archive marker is fine between entries. @throws UnpackInvalid */
  finish(): void {
    const isBetweenEntries = this.#state === 'header' && this.#partialBytes === 0;
    const awaitsEntry = this.#pax !== undefined || this.#longName !== '' || this.#longLink !== '';
    if (this.#state === 'tail' || (isBetweenEntries && !awaitsEntry)) return;
    // Go ignores padding and extended headers that the end cuts off.
    if (isBetweenEntries || this.#state === 'padding') return;
    throw tarInvalid('it ends in the middle of an entry');
  }

  #step(chunk: Buffer, offset: number): number {
    switch (this.#state) {
      case 'header':
        return this.#stepHeader(chunk, offset);
      case 'meta':
        return this.#stepMeta(chunk, offset);
      case 'map':
        return this.#stepMap(chunk, offset);
      case 'body':
        return this.#stepBody(chunk, offset);
      case 'padding':
        return this.#stepPadding(chunk, offset);
      case 'tail':
        return chunk.length;
    }
  }

  #stepHeader(chunk: Buffer, offset: number): number {
    if (this.#partialBytes === 0 && chunk.length - offset >= BLOCK_BYTES) {
      this.#acceptBlock(chunk, offset);
      return offset + BLOCK_BYTES;
    }
    const next = this.#collect(chunk, offset, BLOCK_BYTES);
    if (this.#partialBytes === BLOCK_BYTES) this.#acceptBlock(this.#takePartial(), 0);
    return next;
  }

  #acceptBlock(bytes: Buffer, offset: number): void {
    if (bytes[offset] === 0 && isZeroBlock(bytes, offset)) {
      this.#zeroBlocks++;
      if (this.#zeroBlocks === 2) this.#state = 'tail';
      return;
    }
    if (this.#zeroBlocks > 0) throw tarInvalid('a block of zeros stands alone');
    this.#acceptHeader(decodeTarHeader(bytes, offset));
  }

  #acceptHeader(header: TarHeader): void {
    if (header.sizeBytes < 0 && !isHeaderOnly(header.typeFlag))
      throw tarInvalid(`the size of "${header.name}" is negative`);
    switch (header.typeFlag) {
      case TypeFlag.pax:
      case TypeFlag.globalPax:
      case TypeFlag.gnuLongName:
      case TypeFlag.gnuLongLink:
        this.#beginMeta(header);
        break;
      default:
        this.#beginEntry(header);
    }
  }

  #beginMeta(header: TarHeader): void {
    if (header.sizeBytes > META_BYTES_MAX)
      throw new ShoalError(
        ErrorCode.LimitExceeded,
        `Cannot read layer tar: an extended header has ${header.sizeBytes} bytes, at most ${META_BYTES_MAX} wanted`,
      );
    this.#header = header;
    this.#metaFlag = header.typeFlag;
    this.#metaBytes = header.sizeBytes;
    this.#paddingLeft = paddingOf(header.sizeBytes);
    this.#state = 'meta';
    if (this.#metaBytes === 0) this.#acceptMeta(Buffer.alloc(0));
  }

  #stepMeta(chunk: Buffer, offset: number): number {
    const next = this.#collect(chunk, offset, this.#metaBytes);
    if (this.#partialBytes === this.#metaBytes) this.#acceptMeta(this.#takePartial());
    return next;
  }

  #acceptMeta(bytes: Buffer): void {
    this.#state = this.#paddingLeft > 0 ? 'padding' : 'header';
    if (this.#metaFlag === TypeFlag.pax) this.#pax = decodePax(bytes);
    else if (this.#metaFlag === TypeFlag.gnuLongName) this.#longName = untilNul(bytes);
    else if (this.#metaFlag === TypeFlag.gnuLongLink) this.#longLink = untilNul(bytes);
    else this.#emitGlobal(decodePax(bytes));
  }

  /** A global header is an entry of its own to containerd, and drops the headers meant for the next one. */
  #emitGlobal(records: ReadonlyMap<string, string>): void {
    const header = this.#header;
    assert(header !== undefined, 'a global header has a header');
    const path = records.get('path') ?? '';
    if (path !== '') header.name = path;
    this.#forgetMeta();
    this.#sink.begin({ ...header, sizeBytes: 0 });
    this.#sink.end(header);
  }

  #forgetMeta(): void {
    this.#pax = undefined;
    this.#longName = '';
    this.#longLink = '';
  }

  #beginEntry(header: TarHeader): void {
    if (this.#pax !== undefined) applyPax(header, this.#pax);
    if (this.#longName !== '') header.name = this.#longName;
    if (this.#longLink !== '') header.linkName = this.#longLink;
    if (header.typeFlag === TypeFlag.regularOld)
      header.typeFlag = header.name.endsWith('/') ? TypeFlag.directory : TypeFlag.regular;
    this.#forgetMeta();
    if (!isHeaderOnly(header.typeFlag) && header.sizeBytes < 0)
      throw tarInvalid(`the size of "${header.name}" is negative`);
    this.#header = header;
    this.#bodyLeft = isHeaderOnly(header.typeFlag) ? 0 : header.sizeBytes;
    this.#paddingLeft = paddingOf(this.#bodyLeft);
    this.#beginBody(header);
  }

  #beginBody(header: TarHeader): void {
    this.#fileOffset = 0;
    this.#fragments = undefined;
    const form = header.pax === undefined ? 'none' : applySparse(header);
    if (form !== 'none' && (isHeaderOnly(header.typeFlag) || header.sizeBytes < 0))
      throw tarInvalid(`"${header.name}" cannot be sparse`);
    if (form === 'data') {
      this.#state = 'map';
      this.#mapLines = 0;
      this.#mapLinesWanted = 0;
      if (this.#bodyLeft < BLOCK_BYTES) throw tarInvalid(`the sparse map of "${header.name}" is cut off`);
      return;
    }
    if (form === 'records') this.#setFragments(header, sparseMapOfRecords(header));
    this.#announce(header);
  }

  #stepMap(chunk: Buffer, offset: number): number {
    const header = this.#header;
    assert(header !== undefined, 'a sparse map has a header');
    const blockEnd = this.#partialBytes - (this.#partialBytes % BLOCK_BYTES) + BLOCK_BYTES;
    const next = this.#collect(chunk, offset, blockEnd);
    this.#mapLines += countNewlines(chunk.subarray(offset, next));
    if (this.#partialBytes % BLOCK_BYTES === 0) this.#acceptMapBlock(header);
    return next;
  }

  #acceptMapBlock(header: TarHeader): void {
    this.#bodyLeft -= BLOCK_BYTES;
    if (this.#mapLinesWanted === 0 && this.#mapLines > 0)
      this.#mapLinesWanted = sparseMapLines(this.#joinPartial());
    if (this.#mapLines > 0 && this.#mapLines >= this.#mapLinesWanted) {
      this.#setFragments(header, sparseMapOfData(this.#takePartial(), header));
      this.#announce(header);
    } else if (this.#partialBytes >= META_BYTES_MAX)
      throw tarInvalid(`the sparse map of "${header.name}" is too long`);
    else if (this.#bodyLeft < BLOCK_BYTES) throw tarInvalid(`the sparse map of "${header.name}" is cut off`);
  }

  #setFragments(header: TarHeader, fragments: SparseFragment[]): void {
    let dataBytes = 0;
    for (const fragment of fragments) dataBytes += fragment.lengthBytes;
    if (dataBytes !== this.#bodyLeft)
      throw tarInvalid(`the sparse map of "${header.name}" names ${dataBytes} bytes of ${this.#bodyLeft}`);
    this.#fragments = fragments.filter((fragment) => fragment.lengthBytes > 0);
    this.#fragmentIndex = 0;
    this.#fileOffset = this.#fragments[0]?.offset ?? 0;
  }

  #announce(header: TarHeader): void {
    this.#sink.begin(header);
    if (this.#bodyLeft > 0) this.#state = 'body';
    else this.#endEntry(header);
  }

  #stepBody(chunk: Buffer, offset: number): number {
    const header = this.#header;
    assert(header !== undefined, 'a body has a header');
    const takenBytes = Math.min(chunk.length - offset, this.#bodyLeft, this.#fragmentLeft());
    const next = offset + takenBytes;
    this.#sink.data(chunk, offset, next, this.#fileOffset);
    this.#fileOffset += takenBytes;
    this.#bodyLeft -= takenBytes;
    if (this.#bodyLeft === 0) this.#endEntry(header);
    else if (this.#fragmentLeft() === 0)
      this.#fileOffset = this.#fragments?.[++this.#fragmentIndex]?.offset ?? 0;
    return next;
  }

  #fragmentLeft(): number {
    const fragment = this.#fragments?.[this.#fragmentIndex];
    return fragment === undefined ? Infinity : fragment.offset + fragment.lengthBytes - this.#fileOffset;
  }

  #endEntry(header: TarHeader): void {
    this.#state = this.#paddingLeft > 0 ? 'padding' : 'header';
    this.#header = undefined;
    this.#sink.end(header);
  }

  #stepPadding(chunk: Buffer, offset: number): number {
    const skipped = Math.min(chunk.length - offset, this.#paddingLeft);
    this.#paddingLeft -= skipped;
    if (this.#paddingLeft === 0) this.#state = 'header';
    return offset + skipped;
  }

  /** Copies bytes until `wanted` are held; returns the offset behind them. */
  #collect(chunk: Buffer, offset: number, wanted: number): number {
    const end = Math.min(chunk.length, offset + wanted - this.#partialBytes);
    this.#partial.push(Buffer.from(chunk.subarray(offset, end)));
    this.#partialBytes += end - offset;
    return end;
  }

  #joinPartial(): Buffer {
    const joined = this.#partial.length === 1 ? this.#partial[0] : Buffer.concat(this.#partial);
    assert(joined !== undefined, 'something was collected');
    this.#partial = [joined];
    return joined;
  }

  #takePartial(): Buffer {
    const joined = this.#joinPartial();
    this.#partial = [];
    this.#partialBytes = 0;
    return joined;
  }
}

function paddingOf(sizeBytes: number): number {
  const over = sizeBytes % BLOCK_BYTES;
  return over === 0 ? 0 : BLOCK_BYTES - over;
}

function untilNul(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end < 0 ? bytes.length : end);
}
