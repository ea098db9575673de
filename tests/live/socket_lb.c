// A socket load balancer in small, as eBPF kube-proxy replacements have them: a Service's address becomes an endpoint's at connect().

static __attribute__((always_inline)) inline int balance(struct bpf_sock_addr *ctx)
{
    if (ctx->user_ip4 == VIP && (u16)ctx->user_port == VIP_PORT) {
        ctx->user_ip4 = BACKEND;
        ctx->user_port = BACKEND_PORT;
    }
    return 1;
}

int balance_connect(struct bpf_sock_addr *ctx) { return balance(ctx); }
int balance_sendmsg(struct bpf_sock_addr *ctx) { return balance(ctx); }
