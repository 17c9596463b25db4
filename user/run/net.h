/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The far end of a network device: a tap of the host, or a stream of frames.
 *
 *   tap     /dev/net/tun, with the kernel's checksum and segmentation offloads
 *   socket  a unix stream socket, each frame behind its length (32 bits, big
 *           endian), as QEMU's `-netdev stream` and passt speak it. Who comes
 *           first listens, who comes second connects, so that the same words
 *           connect two VMs. An end that goes away may come back
 *   passt   a passt(1) of its own on such a stream: user-mode networking
 *
 * A frame is an Ethernet frame behind the 12 bytes of struct virtio_net_hdr_v1.
 * One that cannot be sent at once is dropped, as a network does.
 *
 * No locking: the owner serialises. Nothing here blocks, but for as long as passt
 * takes to begin.
 */
#ifndef VMPLAT_RUN_NET_H
#define VMPLAT_RUN_NET_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define NET_HDR_BYTES	12u
#define NET_ETH_MIN	14u
/* 64 KiB of IP, Ethernet, a VLAN tag: the largest segment offloads make */
#define NET_FRAME_MAX	(65535u + 18u)

struct net;
struct vm_net;

/**
 * net_open - @err: a sentence for people when it fails
 *
 * A socket whose other end is not there yet is no error.
 */
int net_open(const struct vm_net *cfg, struct net **out, char *err, size_t err_bytes);
/** net_close - accepts NULL */
void net_close(struct net *net);

/**
 * net_hand_over - the descriptor for another process to go on with; -1: there is none yet
 * @listens: it is of a stream that waits for its other end
 */
int net_hand_over(const struct net *net, bool *listens);

/** net_offloads - do frames carry checksums to finish and segments to cut? */
bool net_offloads(const struct net *net);
/** net_set_offloads - what may come in from now on; nothing unless net_offloads() */
void net_set_offloads(struct net *net, bool csum, bool tso4, bool tso6);

/** net_wait - what to poll for; @receive: room for frames is there */
void net_wait(const struct net *net, bool receive, struct pollfd *p, int *timeout_ms);
/** net_event - after each poll: connects, accepts, sends what was left over */
void net_event(struct net *net, short revents);
/** net_recv - one frame into NET_HDR_BYTES + NET_FRAME_MAX bytes; 0: none is there */
size_t net_recv(struct net *net, uint8_t *buf);
/** net_send - one frame, header first; may change @iov */
void net_send(struct net *net, struct iovec *iov, unsigned int nr);

#endif
