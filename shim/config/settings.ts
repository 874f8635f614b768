/**
 * Every setting of the agent, declared once: its place in the file, type, default, range, unit and meaning. The
 * environment variable is the place in capitals (`p2p.v2.p2pPort` → `SHOAL_P2P_V2_P2P_PORT`). Names under
 * `DeployConfig`, `ExporterConfig` and `p2p.v2` are those of the product that Shoal replaces and never change.
 */
import type { ValuesOf } from './setting.ts';
import {
  absolutePath,
  anyText,
  choice,
  dnsName,
  flag,
  hostPort,
  integer,
  ipAddress,
  ipPort,
  ipPortOrSocket,
  labelPrefix,
  list,
  namespaceName,
  orEmpty,
  p2pHostRule,
  registryPattern,
  serviceName,
  socketPath,
  text,
} from './setting.ts';

const port = (of: { readonly default: number; readonly help: string }) =>
  integer({ ...of, min: 0, max: 65_535 });

/** 1 TB/s: more than any machine moves; keeps bytes per second far below the safe integers. */
const megabytesPerSecondMax = 1_000_000;
const limitMB = (of: { readonly default: number; readonly help: string }) =>
  integer({ ...of, min: 0, max: megabytesPerSecondMax, unit: 'MB/s (10^6 bytes)' });

const kibibyte = 1024;
const gibibyte = kibibyte ** 3;

export const settings = {
  DeployConfig: {
    mode: choice({
      among: ['root', 'agent'],
      default: 'root',
      help: 'A root may fetch from the registry. An agent may not, once it has met a root among its peers or heard of one; then it has its bytes from peers alone.',
    }),
    logDir: text({
      default: '/dadi-p2p/log',
      format: absolutePath,
      help: 'Directory of shoal.log and audit.log, for what is set to go to a file.',
    }),
    logAudit: flag({
      default: false,
      help: 'Write one audit line for each read: who asked for which bytes, how many came, and how long it took.',
    }),
    logAuditMode: choice({
      among: ['stdout', 'file'],
      default: 'stdout',
      help: 'Where audit lines go: standard output, or audit.log in logDir.',
    }),
  },
  ExporterConfig: {
    enable: flag({
      default: false,
      help: 'Serve metrics. Either this or p2p.v2.exporter.enable turns them on; this section then says where.',
    }),
    port: port({ default: 65_006, help: 'Port of the metrics; 0 takes any free one.' }),
    standaloneExporterPort: flag({
      default: true,
      help: 'Serve metrics on a port of their own. If false, they are served on the HTTP port (http.listen).',
    }),
  },
  p2p: {
    addresses: list({
      each: p2pHostRule,
      default: ['*.cr.aliyuncs.com'],
      help: 'Registries that have P2P addresses: a.distributed.b:65001/… is pulled from a.b/…. Name only domains of your own.',
    }),
    v2: {
      image: text({
        default: '',
        format: anyText,
        help: "Image of the agent's own pod, as in the Helm values. It is never accelerated.",
      }),
      imageTag: text({
        default: '',
        format: anyText,
        help: "Tag of the agent's own image, as in the Helm values.",
      }),
      proxyConcurrencyLimit: integer({
        default: 128,
        min: 1,
        max: 4096,
        unit: 'layers',
        help: 'Layers that download at once on this node. More of them wait in line.',
      }),
      p2pPort: port({ default: 65_002, help: 'Port on which peers are served; 0 takes any free one.' }),
      cache: {
        capacity: integer({
          default: 4 * gibibyte,
          min: 0,
          max: 1024 ** 5,
          unit: 'bytes',
          help: 'Room for layers that no pull is using. Pulls that are running may take more, by their own size. 0 keeps nothing.',
        }),
        highWaterPercent: integer({
          default: 80,
          min: 1,
          max: 100,
          unit: '%',
          help: "When more than this of the cache's file system is in use, whoever fills it, layers that no pull is using are dropped, least recently used first. Below kubelet's image collection, which begins at 85 % by default. 100: never.",
        }),
        lowWaterPercent: integer({
          default: 75,
          min: 0,
          max: 100,
          unit: '%',
          help: 'Where that dropping ends. At most highWaterPercent.',
        }),
        directory: text({
          default: '',
          format: orEmpty(absolutePath),
          help: "Directory of the disk cache. Empty: beside containerd's root (the same file system, so that layers are linked and not copied), or inside layout.directory.",
        }),
        aioEnable: integer({
          default: 0,
          min: 0,
          max: 1,
          help: 'Accepted, and without effect: several reads and writes are under way at once with either value, and more of them are no faster (`make bench-disk`).',
        }),
      },
      exporter: {
        enable: flag({
          default: false,
          help: 'Serve metrics on exporter.port, unless ExporterConfig.enable says where.',
        }),
        port: port({ default: 65_003, help: 'Port of the metrics; 0 takes any free one.' }),
      },
      throttleLimitMB: limitMB({
        default: 512,
        help: 'Bytes handed to consumers on this node (unpacking, proxy) a second. 0 is no limit.',
      }),
    },
  },
  node: {
    address: text({
      default: '',
      format: orEmpty(ipAddress),
      help: 'Address at which peers reach this node. Empty: the one of the interface with the default route.',
    }),
    zone: text({
      default: '',
      format: anyText,
      help: 'Zone of the node (topology.kubernetes.io/zone). Peers of the same zone are asked first.',
    }),
  },
  peers: {
    static: list({ each: hostPort, help: 'Peers that are always there.' }),
    dns: text({
      default: '',
      format: orEmpty(dnsName),
      help: 'Name whose addresses are the peers, such as that of a headless service. Without a port, p2p.v2.p2pPort is taken. A name that begins with _ has SRV records.',
    }),
    endpointSlices: text({
      default: '',
      format: orEmpty(serviceName),
      help: 'Service whose endpoints are the peers, watched at the API server (with kubernetes.kubeconfig). Up to 200 nodes; above, set peers.dns.',
    }),
    listen: text({
      default: '',
      format: orEmpty(ipPort),
      help: 'Address on which peers are served. Empty: node.address with p2p.v2.p2pPort.',
    }),
    advertise: text({
      default: '',
      format: orEmpty(ipPort),
      help: 'Address by which peers know this node, where it is not the one that is listened on (a port mapping). Empty: the same.',
    }),
    tls: {
      ca: text({
        default: '',
        format: orEmpty(absolutePath),
        help: 'PEM file of the authority whose certificates peers are believed. With all three files, peers speak TLS 1.3; files that change are taken up while the agent runs.',
      }),
      cert: text({
        default: '',
        format: orEmpty(absolutePath),
        help: "PEM file of this node's certificate, for client and server, naming node.address or the name in peers.dns.",
      }),
      key: text({
        default: '',
        format: orEmpty(absolutePath),
        help: 'PEM file of the key of that certificate.',
      }),
    },
    insecure: flag({
      default: false,
      help: 'Let peers talk in plain text beyond the loopback interface. Anybody in the network can then read and fake what they say (faked layers are found by their digest).',
    }),
  },
  cri: {
    socket: text({
      default: '/run/shoal/agent/cri.sock',
      format: socketPath,
      help: "Socket on which the agent answers CRI calls, behind the front that owns kubelet's socket.",
    }),
    containerdSocket: text({
      default: '/run/containerd/containerd.sock',
      format: socketPath,
      help: "containerd's socket: everything but accelerated pulls is passed on to it.",
    }),
  },
  control: {
    socket: text({
      default: '/run/shoal/control.sock',
      format: socketPath,
      help: 'Socket on which the agent answers `shoal pull` and `shoal status`.',
    }),
  },
  http: {
    listen: text({
      default: '/run/shoal/agent/http.sock',
      format: ipPortOrSocket,
      help: 'Where the local HTTP service is: registry mirror, P2P image addresses, on-demand reads. A socket when the front owns the port (127.0.0.1:65001), else IP:PORT.',
    }),
  },
  policy: {
    mode: choice({
      among: ['opt-in', 'all', 'off', 'observe'],
      default: 'opt-in',
      help: 'Which pulls are accelerated: those that ask for it, all, none, or none while telling in the log what would have been done.',
    }),
    keyPrefix: text({
      default: 'k8s.aliyun.com',
      format: labelPrefix,
      help: 'Prefix of the label or annotation key PREFIX/image-accelerate-mode by which pods opt in (value p2p) or out (value off).',
    }),
    registries: {
      allow: list({ each: registryPattern, help: 'Registries whose images may be accelerated. Empty: all.' }),
      deny: list({ each: registryPattern, help: 'Registries whose images are never accelerated.' }),
    },
    namespaces: {
      optIn: list({ each: namespaceName, help: 'Namespaces all of whose pods are opted in.' }),
      allow: list({ each: namespaceName, help: 'Namespaces whose pods may be accelerated. Empty: all.' }),
      deny: list({ each: namespaceName, help: 'Namespaces whose pods are never accelerated.' }),
    },
    ownImage: text({
      default: '',
      format: anyText,
      help: "Image of the agent's own pod, which is never accelerated. Empty: p2p.v2.image and imageTag.",
    }),
  },
  kubernetes: {
    kubeconfig: text({
      default: '',
      format: orEmpty(absolutePath),
      help: "Kubeconfig for the watches. Empty: the service account of the agent's pod.",
    }),
    nodeName: text({
      default: '',
      format: orEmpty(dnsName),
      help: 'Name of this node in the cluster. Empty: the host name, as kubelet has it by default.',
    }),
    watchNamespaces: flag({
      default: false,
      help: 'Opt in the pods of every namespace with the label PREFIX/image-accelerate-mode: p2p. Needs the right to list and watch namespaces.',
    }),
    watchPods: flag({
      default: false,
      help: 'Warm the images of opted-in pods as soon as they are bound to this node. Needs the right to list and watch pods.',
    }),
    kubeletKubeconfig: text({
      default: '',
      format: orEmpty(absolutePath),
      help: "kubelet's own kubeconfig, with which the pull secrets of this node's pods are read for warming. Empty: none are read.",
    }),
  },
  store: choice({
    among: ['containerd', 'layout'],
    default: 'containerd',
    help: 'Where pulled images go: into containerd, or into a directory (OCI image layout with unpacked roots), which needs no daemon.',
  }),
  containerd: {
    configPath: text({
      default: '/etc/containerd/certs.d',
      format: orEmpty(absolutePath),
      help: "containerd's config_path: hosts.toml files with mirrors, certificates and headers for each registry. Empty: none are read.",
    }),
    configFile: text({
      default: '/etc/containerd/config.toml',
      format: absolutePath,
      help: "containerd's own configuration: it tells, with what it imports, where image verifiers are. While there is one, containerd pulls.",
    }),
    snapshotter: text({
      default: 'auto',
      format: anyText,
      help: "Snapshotter for pulled images. auto: the one that containerd's CRI plugin would take, per runtime handler.",
    }),
    discardUnpackedLayers: flag({
      default: false,
      help: 'Keep no compressed layers in containerd after unpacking, as its own setting discard_unpacked_layers does, which counts where containerd.configFile has it. Peers are then served from the cache alone.',
    }),
  },
  layout: {
    directory: text({
      default: '/var/lib/shoal/images',
      format: absolutePath,
      help: 'Directory of the layout store.',
    }),
  },
  warm: {
    enable: flag({
      default: true,
      help: 'Bring the images of pods that have opted in ahead of their pulls. Never makes an image visible: the pull still asks the registry with its own credentials.',
    }),
    atOnce: integer({
      default: 2,
      min: 1,
      max: 16,
      unit: 'images',
      help: 'Images that are warmed at once on this node, while nobody pulls.',
    }),
    holdMinutes: integer({
      default: 15,
      min: 1,
      max: 60,
      unit: 'minutes',
      help: 'How long warm layers wait for their pull before they are given up.',
    }),
    freePercentMin: integer({
      default: 15,
      min: 0,
      max: 99,
      unit: '%',
      help: "Nothing is warmed that would leave less of the disk free. Warm layers are no images, so that kubelet's collection, which begins at 15 % by default, does not see them.",
    }),
  },
  originDown: {
    mode: choice({
      among: ['deny', 'grace'],
      default: 'deny',
      help: 'What a pull gets whose registry does not answer. deny: nothing of Shoal. grace: what the registry gave to the same credentials on this node a short while ago; each such pull is logged and counted.',
    }),
    graceSeconds: integer({
      default: 3600,
      min: 1,
      max: 604_800,
      unit: 's',
      help: 'How long ago that may have been. Rights that were taken back meanwhile are not noticed in an outage.',
    }),
    tags: flag({
      default: false,
      help: 'Grace also for tags, which may have moved. Otherwise only references with a digest have it.',
    }),
  },
  limits: {
    originLimitMB: limitMB({
      default: 0,
      help: 'Bytes of layers read from one registry host a second, by all nodes together, and from all hosts by this one. To be set alike on all nodes. 0 is no limit.',
    }),
    originRequestsPerSecond: integer({
      default: 0,
      min: 0,
      max: 100_000,
      unit: 'requests/s',
      help: 'Ranges of layers asked of one registry host a second, by all nodes together, and of all hosts by this one. What each pull asks ahead of its layers (manifest, configuration, token) is not held back. 0 is no limit.',
    }),
    uploadLimitMB: limitMB({ default: 0, help: 'Bytes sent to peers a second. 0 is no limit.' }),
    layersAtOnce: integer({
      default: 3,
      min: 1,
      max: 128,
      unit: 'layers',
      help: 'Layers of one pull that are fetched at once, in the order of the image: what is unpacked first arrives first.',
    }),
    unpackWorkers: integer({
      default: 0,
      min: 0,
      max: 64,
      unit: 'threads',
      help: 'Threads that decompress and unpack; each takes about 40 MB of memory. 0: as many as there are cores, at most 4.',
    }),
    unpackedBytesMax: integer({
      default: 64 * gibibyte,
      min: kibibyte ** 2,
      max: 1024 ** 5,
      unit: 'bytes',
      help: 'Most that one layer may unpack to. A layer that claims more is refused: it is a compression bomb.',
    }),
    stallTimeoutMs: integer({
      default: 30_000,
      min: 1000,
      max: 3_600_000,
      unit: 'ms',
      help: 'A pull without a new byte for this long is handed over to containerd.',
    }),
  },
  log: {
    level: choice({
      among: ['error', 'warn', 'info', 'debug'],
      default: 'info',
      help: 'Least important messages that are written.',
    }),
    format: choice({
      among: ['json', 'text'],
      default: 'json',
      help: 'One JSON object a line, or text for people.',
    }),
    output: choice({
      among: ['stderr', 'file'],
      default: 'stderr',
      help: 'Where messages go: standard error, or shoal.log in DeployConfig.logDir.',
    }),
  },
} as const;

/** What stands above a section in the default file. */
export const sectionHelp: Readonly<Record<string, string>> = {
  DeployConfig: 'What this node is, and its logs.',
  ExporterConfig: 'Prometheus metrics.',
  p2p: 'The same names as in the Helm values.',
  node: 'This node as its peers see it.',
  peers: 'Who the peers are, and how they talk.',
  cri: 'The way in for kubelet and crictl.',
  control: 'The way in for the command line.',
  http: 'The way in for containerd, P2P image addresses and overlaybd.',
  policy: 'Which pulls are accelerated.',
  kubernetes: 'What the API server is asked. Nothing unless a watch is on; the agent works without it.',
  containerd: 'How containerd is used.',
  layout: 'The store that needs no containerd.',
  warm: 'Images that are brought ahead of their pulls.',
  originDown: 'Registries that do not answer.',
  limits: 'What a node may use.',
  log: "The agent's own messages. Credentials are never among them.",
};

/** The agent's configuration: frozen, complete, within all ranges. */
export type Config = ValuesOf<typeof settings>;
