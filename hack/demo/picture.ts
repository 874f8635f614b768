/** One node's progress over time, and where its bytes came from. */
export interface NodeTrace {
  readonly name: string;
  readonly seconds: number;
  readonly points: readonly {
    readonly seconds: number;
    readonly originBytes: number;
    readonly peerBytes: number;
  }[];
}

export interface PictureData {
  readonly title: string;
  readonly imageBytes: number;
  readonly originBytes: number;
  readonly nodes: readonly NodeTrace[];
  readonly aloneSeconds: number;
  /** Computed from the uplink: the least that pulls without peers take. */
  readonly withoutPeersSeconds: number;
}

const WIDTH = 860;
const BAND_HEIGHT = 64;
const LEFT = 90;
const RIGHT = 30;
const TOP = 70;
const COLORS = { origin: '#d9822b', peer: '#2b7a9b', text: '#24292f', faint: '#8b949e', grid: '#d0d7de' };

/** Draws one band a node (bytes over time, stacked by source) above bars that compare with pulls without peers. */
export function drawPicture(data: PictureData): string {
  const swarmSeconds = Math.max(...data.nodes.map((node) => node.seconds));
  const bandsBottom = TOP + data.nodes.length * BAND_HEIGHT;
  const height = bandsBottom + 40 + 3 * 26 + 20;
  const x = (seconds: number): number => LEFT + (seconds / swarmSeconds) * (WIDTH - LEFT - RIGHT);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="12">`,
    `<title>${escapeXml(data.title)}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    label(LEFT, 24, data.title, { size: 16 }),
    legend(),
    ...data.nodes.map((node, index) => band(node, TOP + index * BAND_HEIGHT, data.imageBytes, x)),
    axis(bandsBottom, swarmSeconds, x),
    ...comparison(data, bandsBottom + 48, swarmSeconds),
    '</svg>',
    '',
  ].join('\n');
}

type Scale = (seconds: number) => number;

function band(node: NodeTrace, top: number, imageBytes: number, x: Scale): string {
  const base = top + BAND_HEIGHT - 8;
  const tall = BAND_HEIGHT - 16;
  const y = (bytes: number): number => base - Math.min(bytes / imageBytes, 1) * tall;
  const area = (of: (point: NodeTrace['points'][number]) => number, color: string): string => {
    const points = node.points.map((point) => `${x(point.seconds).toFixed(1)},${y(of(point)).toFixed(1)}`);
    const end = x(node.points.at(-1)?.seconds ?? 0).toFixed(1);
    return `<polygon fill="${color}" points="${LEFT},${base} ${points.join(' ')} ${end},${base}"/>`;
  };
  return [
    `<line x1="${LEFT}" y1="${base}" x2="${WIDTH - RIGHT}" y2="${base}" stroke="${COLORS.grid}"/>`,
    area((point) => point.originBytes + point.peerBytes, COLORS.peer),
    area((point) => point.originBytes, COLORS.origin),
    label(LEFT - 10, base - tall / 2, node.name, { anchor: 'end' }),
    label(LEFT - 10, base - tall / 2 + 15, `${node.seconds.toFixed(1)} s`, {
      anchor: 'end',
      color: COLORS.faint,
    }),
  ].join('\n');
}

function legend(): string {
  return [
    `<rect x="${LEFT}" y="38" width="12" height="12" fill="${COLORS.origin}"/>`,
    label(LEFT + 18, 48, 'read from the registry'),
    `<rect x="${LEFT + 180}" y="38" width="12" height="12" fill="${COLORS.peer}"/>`,
    label(LEFT + 198, 48, 'sent by other nodes'),
  ].join('\n');
}

function axis(top: number, seconds: number, x: Scale): string {
  const step = seconds > 20 ? 5 : seconds > 8 ? 2 : 1;
  const ticks = Array.from({ length: Math.floor(seconds / step) + 1 }, (_, index) => index * step);
  return ticks
    .map((tick) => label(x(tick), top + 12, `${tick} s`, { anchor: 'middle', color: COLORS.faint }))
    .join('\n');
}

function comparison(data: PictureData, top: number, swarmSeconds: number): string[] {
  const rows = [
    [`${data.nodes.length} nodes, with Shoal`, swarmSeconds, COLORS.peer],
    ['one node, alone', data.aloneSeconds, COLORS.faint],
    [`${data.nodes.length} nodes, no peers ≥`, data.withoutPeersSeconds, COLORS.origin],
  ] as const;
  const longest = Math.max(...rows.map(([, seconds]) => seconds));
  const from = LEFT + 70;
  return rows.map(([name, seconds, color], index) => {
    const y = top + index * 26;
    const width = (seconds / longest) * (WIDTH - from - RIGHT - 60);
    return [
      label(from - 10, y + 12, name, { anchor: 'end' }),
      `<rect x="${from}" y="${y}" width="${width.toFixed(1)}" height="16" fill="${color}"/>`,
      label(from + width + 6, y + 12, `${seconds.toFixed(1)} s`),
    ].join('\n');
  });
}

interface LabelStyle {
  readonly size?: number;
  readonly anchor?: 'start' | 'middle' | 'end';
  readonly color?: string;
}

function label(x: number, y: number, text: string, style: LabelStyle = {}): string {
  const { size = 12, anchor = 'start', color = COLORS.text } = style;
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="${size}" text-anchor="${anchor}" fill="${color}">${escapeXml(text)}</text>`;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
