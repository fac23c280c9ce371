#include "net/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "base/alloc.h"

struct lt_tls {
    SSL *ssl;
    BIO *in, *out; /* the SSL's */
    bool over;
    char *error; /* NULL: it was closed */
};

/* The context is OpenSSL's own. */
static SSL_CTX *ssl_of(struct lt_tls_context *context)
{
    return (SSL_CTX *)context;
}

static const char *reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = code != 0 ? ERR_reason_error_string(code) : NULL;
    return text != NULL ? text : "no reason is given";
}

/* Contexts. */

/* A key that has a password is refused: there is nobody to ask. */
static int no_password(char *to, int size, int writes, void *arg)
{
    (void)to;
    (void)size;
    (void)writes;
    (void)arg;
    return -1;
}

static bool use_files(SSL_CTX *ctx, const struct lt_tls_files *files, struct lt_error *error)
{
    if (files->ca != NULL ? SSL_CTX_load_verify_locations(ctx, files->ca, NULL) != 1
                          : SSL_CTX_set_default_verify_paths(ctx) != 1) {
        lt_fail(error, LT_ERROR, "tls.ca: the authorities in %s cannot be read: %s",
                files->ca != NULL ? files->ca : "the system's folder", reason());
        return false;
    }
    if (files->cert != NULL && SSL_CTX_use_certificate_chain_file(ctx, files->cert) != 1) {
        lt_fail(error, LT_ERROR, "tls.cert: the certificate in %s cannot be read: %s", files->cert, reason());
        return false;
    }
    if (files->key != NULL && SSL_CTX_use_PrivateKey_file(ctx, files->key, SSL_FILETYPE_PEM) != 1) {
        lt_fail(error, LT_ERROR, "tls.key: the key in %s cannot be used with the certificate: %s", files->key,
                reason());
        return false;
    }
    return true;
}

struct lt_tls_context *lt_tls_context_new(const struct lt_tls_files *files, struct lt_error *error)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL)
        lt_out_of_memory();
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_default_passwd_cb(ctx, no_password);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    if (use_files(ctx, files, error))
        return (struct lt_tls_context *)ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

void lt_tls_context_free(struct lt_tls_context *context)
{
    SSL_CTX_free(ssl_of(context));
}

/* Connections. */

struct lt_tls *lt_tls_new(struct lt_tls_context *context, const char *name)
{
    struct lt_tls *tls = lt_zalloc(sizeof *tls);
    tls->ssl = SSL_new(ssl_of(context));
    tls->in = BIO_new(BIO_s_mem());
    tls->out = BIO_new(BIO_s_mem());
    if (tls->ssl == NULL || tls->in == NULL || tls->out == NULL)
        lt_out_of_memory();
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    SSL_set_connect_state(tls->ssl);
    X509_VERIFY_PARAM *wanted = SSL_get0_param(tls->ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(wanted, name) != 1) {
        SSL_set_tlsext_host_name(tls->ssl, name);
        if (SSL_set1_host(tls->ssl, name) != 1)
            lt_out_of_memory();
    }
    return tls;
}

void lt_tls_free(struct lt_tls *tls)
{
    if (tls == NULL)
        return;
    SSL_free(tls->ssl);
    free(tls->error);
    free(tls);
}

/* False: it is over. */
static bool goes_on(struct lt_tls *tls, int result)
{
    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_NONE:
    case SSL_ERROR_WANT_READ:
        return true;
    case SSL_ERROR_ZERO_RETURN:
        tls->over = true;
        return false;
    default:
        tls->over = true;
        break;
    }
    long verified = SSL_get_verify_result(tls->ssl);
    if (verified != X509_V_OK)
        tls->error =
            lt_format("its certificate is not accepted: %s; name the authority's file as tls.ca, and the server "
                      "as in its certificate",
                      X509_verify_cert_error_string(verified));
    else if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_WRONG_VERSION_NUMBER)
        tls->error = lt_strdup("it does not speak TLS; use redis:// for it, or its port for TLS");
    else
        tls->error = lt_format("TLS failed: %s", reason());
    return false;
}

bool lt_tls_take(struct lt_tls *tls, const char *bytes, size_t len, struct lt_buffer *plain)
{
    int count;
    ERR_clear_error();
    if (tls->over)
        return false;
    if (len > 0 && BIO_write(tls->in, bytes, (int)len) != (int)len)
        lt_out_of_memory();
    do {
        lt_buffer_reserve(plain, 16 << 10);
        count = SSL_read(tls->ssl, plain->data + plain->len, 16 << 10); /* shakes hands, too */
        plain->len += count > 0 ? (size_t)count : 0;
    } while (count > 0);
    return goes_on(tls, count);
}

bool lt_tls_is_open(const struct lt_tls *tls)
{
    return SSL_is_init_finished(tls->ssl);
}

void lt_tls_say(struct lt_tls *tls, const char *plain, size_t len)
{
    ERR_clear_error();
    while (len > 0 && !tls->over) {
        int count = SSL_write(tls->ssl, plain, len > 1 << 30 ? 1 << 30 : (int)len);
        if (count <= 0) { /* into memory it can always write: it is over, and the next reading says why */
            tls->over = !goes_on(tls, count);
            return;
        }
        plain += count;
        len -= (size_t)count;
    }
}

void lt_tls_give(struct lt_tls *tls, struct lt_buffer *out)
{
    size_t pending = BIO_ctrl_pending(tls->out);
    if (pending == 0)
        return;
    lt_buffer_reserve(out, pending);
    int count = BIO_read(tls->out, out->data + out->len, (int)pending);
    out->len += count > 0 ? (size_t)count : 0;
}

const char *lt_tls_error(const struct lt_tls *tls)
{
    return tls->error;
}
