/*
 * QTest testcase for guests that mark the pages that their devices write
 *
 * The test is the guest: it reads and writes the registers of
 * docs/specs/pci-page-dirtying.rst.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "libqos/pci.h"
#include "libqos/pci-pc.h"
#include "migration/migration-qmp.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qemu/timer.h"
#include "hw/pci/pci_regs.h"

/* As a guest would have it from the document, and not from QEMU's headers */
#define CAP_TYPE                2
#define CAP_LENGTH              0x20
#define VERSION                 0x04
#define VECTOR                  0x05
#define POLL                    0x06
#define REQUEST                 0x08
#define GUEST                   0x0c
#define ANSWER                  0x10

#define STATE(word)             ((word) & 0xff)
#define IDLE                    0
#define ACTIVE                  1
#define REFUSED                 2
#define GENERATION(word)        (((word) >> 8) & 0x7fffff)
#define ATTENTION               0x80000000
#define WORD(state, generation) ((state) | ((generation) & 0x7fffff) << 8)

#define DRIVER                  1
#define STREAMING               2

#define SLOT                    3
#define MACHINE                 "-M q35 -nodefaults "
#define NATIVE_HOTPLUG \
    "-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off "
#define ROOT_PORT \
    "-device pcie-root-port,id=rp0,chassis=1,addr=3,page-dirtying=on"
#define BRIDGE \
    "-device pci-bridge,id=rp0,chassis_nr=1,addr=3,page-dirtying=on"

#define NOWHERE                 "exec:cat > /dev/null"
/* Nothing ends by it unless the test says so */
#define LONG_MS                 60000
#define SHORT_MS                200

typedef struct Guest {
    QTestState *qts;
    QPCIBus *bus;
    QPCIDevice *dev;
    uint8_t cap;        /* offset of the registers, or 0 */
} Guest;

static uint8_t find_registers(QPCIDevice *dev)
{
    uint8_t cap = qpci_config_readb(dev, PCI_CAPABILITY_LIST);

    while (cap && (qpci_config_readb(dev, cap) != PCI_CAP_ID_VNDR ||
                   qpci_config_readb(dev, cap + 3) != CAP_TYPE)) {
        cap = qpci_config_readb(dev, cap + PCI_CAP_LIST_NEXT);
    }
    return cap;
}

static Guest *guest_start(const char *args)
{
    Guest *g = g_new0(Guest, 1);

    g->qts = qtest_init(args);
    g->bus = qpci_new_pc(g->qts, NULL);
    g->dev = qpci_device_find(g->bus, QPCI_DEVFN(SLOT, 0));
    g_assert_nonnull(g->dev);
    g->cap = find_registers(g->dev);
    return g;
}

static void guest_stop(Guest *g)
{
    g_free(g->dev);
    qpci_free_pc(g->bus);
    qtest_quit(g->qts);
    g_free(g);
}

static uint32_t get(Guest *g, int reg)
{
    return qpci_config_readl(g->dev, g->cap + reg);
}

static void set(Guest *g, int reg, uint32_t val)
{
    qpci_config_writel(g->dev, g->cap + reg, val);
}

static void answer(Guest *g, int state)
{
    set(g, GUEST, DRIVER | STREAMING);
    set(g, ANSWER, WORD(state, GENERATION(get(g, REQUEST))));
}

static void assert_idle(Guest *g)
{
    g_assert_cmpint(STATE(get(g, REQUEST)), ==, IDLE);
}

/* What QMP says of the one bridge */
static QDict *query(Guest *g)
{
    QDict *rsp = qtest_qmp(g->qts, "{ 'execute': 'query-page-dirtying' }");
    QList *list = qdict_get_qlist(rsp, "return");
    QDict *info;

    g_assert_cmpint(qlist_size(list), ==, 1);
    info = qobject_to(QDict, qlist_pop(list));
    qobject_unref(rsp);
    return info;
}

static void set_status_events(Guest *g)
{
    migrate_set_capability(g->qts, "events", true);
}

/* The states that a migration goes through are announced in order */
static void wait_status(Guest *g, const char *wanted)
{
    QDict *rsp = qtest_qmp_eventwait_ref(g->qts, "MIGRATION");

    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "data"), "status"), ==,
                    wanted);
    qobject_unref(rsp);
}

static void migrate(Guest *g, const char *uri)
{
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'migrate',"
                             "  'arguments': { 'uri': %s } }", uri);
}

static void start(Guest *g, const char *uri, int timeout_ms)
{
    set_status_events(g);
    migrate_set_parameter_int(g->qts, "page-dirtying-timeout", timeout_ms);
    migrate(g, uri);
    wait_status(g, "setup");
    wait_status(g, "wait-page-dirtying");
    g_assert_cmpint(STATE(get(g, REQUEST)), ==, ACTIVE);
    g_assert(get(g, REQUEST) & ATTENTION);
}

static void wait_failed_and_is(Guest *g, const char *why, const char *runstate)
{
    g_autofree char *status = NULL;
    const char *desc;
    QDict *rsp;

    wait_status(g, "failed");
    rsp = qtest_qmp(g->qts, "{ 'execute': 'query-migrate' }");
    desc = qdict_get_str(qdict_get_qdict(rsp, "return"), "error-desc");
    g_assert_nonnull(strstr(desc, why));
    qobject_unref(rsp);

    /* The guest goes on, and is relieved as soon as all is cleaned up */
    while (STATE(get(g, REQUEST)) != IDLE) {
        g_usleep(1000);
    }
    rsp = qtest_qmp(g->qts, "{ 'execute': 'query-status' }");
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "return"), "status"), ==,
                    runstate);
    qobject_unref(rsp);
}

static void wait_failed(Guest *g, const char *why)
{
    wait_failed_and_is(g, why, "running");
}

static void slow_down(Guest *g)
{
    migrate_set_parameter_int(g->qts, "max-bandwidth", 1000);
}

static void speed_up(Guest *g)
{
    migrate_set_parameter_int(g->qts, "max-bandwidth", 1000000000);
}

static void test_off(void)
{
    Guest *g = guest_start(MACHINE
                           "-device pcie-root-port,id=rp0,chassis=1,addr=3");
    QDict *rsp;

    g_assert_cmpint(g->cap, ==, 0);
    rsp = qtest_qmp(g->qts, "{ 'execute': 'query-page-dirtying' }");
    g_assert(qlist_empty(qdict_get_qlist(rsp, "return")));
    qobject_unref(rsp);

    set_status_events(g);
    migrate(g, NOWHERE);
    wait_status(g, "setup");
    wait_status(g, "active");
    wait_status(g, "device");
    wait_status(g, "completed");
    guest_stop(g);
}

static void test_registers(const void *opaque)
{
    g_autofree char *args = g_strdup_printf(MACHINE
                                            "%s,page-dirtying-poll=0x1234",
                                            (const char *)opaque);
    Guest *g = guest_start(args);
    uint32_t request;
    int i;

    g_assert_cmpint(g->cap, !=, 0);
    g_assert_cmpint(g->cap % 4, ==, 0);
    g_assert_cmpint(qpci_config_readb(g->dev, g->cap + 2), ==, CAP_LENGTH);
    g_assert_cmpint(qpci_config_readb(g->dev, g->cap + VERSION), ==, 1);
    g_assert_cmpint(qpci_config_readb(g->dev, g->cap + VECTOR), ==, 0xff);
    g_assert_cmpint(qpci_config_readw(g->dev, g->cap + POLL), ==, 0x1234);
    request = get(g, REQUEST);
    g_assert_cmphex(request, ==,
                    WORD(IDLE, GENERATION(request)) | ATTENTION);
    g_assert_cmphex(get(g, GUEST), ==, 0);
    g_assert_cmphex(get(g, ANSWER), ==, 0);
    for (i = ANSWER + 4; i < CAP_LENGTH; i += 4) {
        g_assert_cmphex(get(g, i), ==, 0);
    }

    /* Only GUEST and ANSWER can be written, and of them only some bits */
    for (i = 0; i < CAP_LENGTH; i += 4) {
        uint32_t before = get(g, i);

        if (i != GUEST && i != ANSWER) {
            set(g, i, ~before);
            g_assert_cmphex(get(g, i), ==, before);
        }
    }
    set(g, GUEST, 0xffffffff);
    g_assert_cmphex(get(g, GUEST), ==, DRIVER | STREAMING);
    set(g, ANSWER, 0xffffffff);
    g_assert_cmphex(get(g, ANSWER), ==, 0x7fffffff);

    /* As a whole, or not at all */
    for (i = 0; i < 4; i++) {
        qpci_config_writeb(g->dev, g->cap + GUEST + i, 0);
        qpci_config_writeb(g->dev, g->cap + ANSWER + i, 0);
    }
    for (i = 0; i < 4; i += 2) {
        qpci_config_writew(g->dev, g->cap + GUEST + i, 0);
        qpci_config_writew(g->dev, g->cap + ANSWER + i, 0);
    }
    g_assert_cmphex(get(g, GUEST), ==, DRIVER | STREAMING);
    g_assert_cmphex(get(g, ANSWER), ==, 0x7fffffff);

    /* None of that was an answer, and neither is this */
    g_assert_cmphex(get(g, REQUEST), ==, request);
    set(g, ANSWER, WORD(IDLE, GENERATION(request) - 1));
    g_assert_cmphex(get(g, REQUEST), ==, request);
    /* This is */
    set(g, ANSWER, WORD(IDLE, GENERATION(request)));
    g_assert_cmphex(get(g, REQUEST), ==, request & ~ATTENTION);

    guest_stop(g);
}

static void test_reset(const void *opaque)
{
    g_autofree char *args = g_strdup_printf(MACHINE "%s",
                                            (const char *)opaque);
    Guest *g = guest_start(args);
    uint32_t request = get(g, REQUEST);

    answer(g, IDLE);
    g_assert(!(get(g, REQUEST) & ATTENTION));

    qtest_system_reset(g->qts);
    g_assert_cmphex(get(g, GUEST), ==, 0);
    g_assert_cmphex(get(g, ANSWER), ==, 0);
    g_assert_cmphex(get(g, REQUEST), ==,
                    WORD(IDLE, GENERATION(request) + 1) | ATTENTION);

    guest_stop(g);
}

static void test_qmp(void)
{
    Guest *g = guest_start(MACHINE ROOT_PORT);
    QDict *info, *rsp, *data;

    info = query(g);
    g_assert_cmpstr(qdict_get_str(info, "id"), ==, "rp0");
    g_assert_cmpstr(qdict_get_str(info, "qom-path"), ==,
                    "/machine/peripheral/rp0");
    g_assert_cmpstr(qdict_get_str(info, "requested"), ==, "idle");
    g_assert_cmpint(qdict_get_int(info, "generation"), ==,
                    GENERATION(get(g, REQUEST)));
    g_assert(!qdict_get_bool(info, "answered"));
    g_assert(!qdict_haskey(info, "answer"));
    g_assert(!qdict_get_bool(info, "driver"));
    g_assert(!qdict_get_bool(info, "streaming"));
    qobject_unref(info);

    /* The answer to another request is none, also for QMP */
    set(g, GUEST, DRIVER);
    set(g, ANSWER, WORD(ACTIVE, GENERATION(get(g, REQUEST)) + 1));
    info = query(g);
    g_assert(!qdict_get_bool(info, "answered"));
    g_assert(qdict_get_bool(info, "driver"));
    g_assert(!qdict_get_bool(info, "streaming"));
    qobject_unref(info);

    answer(g, IDLE);
    rsp = qtest_qmp_eventwait_ref(g->qts, "PAGE_DIRTYING_ANSWER");
    data = qdict_get_qdict(rsp, "data");
    g_assert_cmpstr(qdict_get_str(data, "qom-path"), ==,
                    "/machine/peripheral/rp0");
    g_assert_cmpint(qdict_get_int(data, "generation"), ==,
                    GENERATION(get(g, REQUEST)));
    g_assert_cmpstr(qdict_get_str(data, "answer"), ==, "idle");
    qobject_unref(rsp);

    info = query(g);
    g_assert(qdict_get_bool(info, "answered"));
    g_assert_cmpstr(qdict_get_str(info, "answer"), ==, "idle");
    g_assert(qdict_get_bool(info, "streaming"));
    qobject_unref(info);

    guest_stop(g);
}

static void test_timeout(void)
{
    Guest *g = guest_start(MACHINE ROOT_PORT);
    uint32_t request;

    start(g, NOWHERE, SHORT_MS);
    request = get(g, REQUEST);
    wait_failed(g, "not answered in 200 ms at 'rp0'");
    g_assert_cmphex(get(g, REQUEST), ==,
                    WORD(IDLE, GENERATION(request) + 1) | ATTENTION);
    guest_stop(g);
}

static void test_refused(void)
{
    Guest *g = guest_start(MACHINE ROOT_PORT);

    start(g, NOWHERE, LONG_MS);
    set(g, GUEST, DRIVER);
    set(g, ANSWER, WORD(REFUSED, GENERATION(get(g, REQUEST))));
    wait_failed(g, "refuses at 'rp0'");

    /* Neither is a promise without the means to keep it */
    migrate(g, NOWHERE);
    wait_status(g, "setup");
    wait_status(g, "wait-page-dirtying");
    set(g, ANSWER, WORD(ACTIVE, GENERATION(get(g, REQUEST))));
    wait_failed(g, "refuses at 'rp0'");
    guest_stop(g);
}

/* Each block has to answer */
static void test_two_blocks(void)
{
    Guest *g = guest_start(MACHINE ROOT_PORT
                           " -device pcie-root-port,id=rp1,chassis=2,addr=4,"
                           "page-dirtying=on");

    start(g, NOWHERE, SHORT_MS);
    answer(g, ACTIVE);
    wait_failed(g, "not answered in 200 ms at 'rp1'");
    guest_stop(g);
}

static void test_stale_answer(void)
{
    Guest *g = guest_start(MACHINE ROOT_PORT);
    uint32_t before = get(g, REQUEST);

    start(g, NOWHERE, SHORT_MS);
    set(g, GUEST, DRIVER | STREAMING);
    set(g, ANSWER, WORD(ACTIVE, GENERATION(before)));
    g_assert(get(g, REQUEST) & ATTENTION);
    wait_failed(g, "not answered in 200 ms at 'rp0'");
    guest_stop(g);
}

static void test_cancel(void)
{
    Guest *g = guest_start(MACHINE ROOT_PORT);
    int64_t began;

    start(g, NOWHERE, LONG_MS);
    began = g_get_monotonic_time();
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'migrate_cancel' }");
    wait_status(g, "cancelling");
    wait_status(g, "cancelled");
    g_assert_cmpint(g_get_monotonic_time() - began, <, 10 * G_USEC_PER_SEC);
    assert_idle(g);

    /* And once more */
    migrate(g, NOWHERE);
    wait_status(g, "setup");
    wait_status(g, "wait-page-dirtying");
    answer(g, ACTIVE);
    wait_status(g, "active");
    wait_status(g, "device");
    wait_status(g, "completed");
    guest_stop(g);
}

static void test_migrate(const void *opaque)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *dir = g_dir_make_tmp("page-dirtying-XXXXXX", &err);
    g_autofree char *uri = NULL, *path = NULL, *args = NULL, *to_args = NULL;
    uint32_t request, guest, answered;
    Guest *from, *to;

    g_assert_no_error(err);
    path = g_strdup_printf("%s/socket", dir);
    uri = g_strdup_printf("unix:%s", path);
    args = g_strdup_printf(MACHINE "%s", (const char *)opaque);
    to_args = g_strdup_printf("%s -S -incoming %s", args, uri);

    to = guest_start(to_args);
    from = guest_start(args);
    start(from, uri, LONG_MS);
    answer(from, ACTIVE);
    request = get(from, REQUEST);
    guest = get(from, GUEST);
    answered = get(from, ANSWER);
    g_assert_cmphex(answered, ==, request);
    wait_status(from, "active");
    wait_status(from, "device");
    wait_status(from, "completed");
    wait_for_migration_complete(to->qts);

    /* The destination has what the source had, and asks when it begins */
    g_assert_cmphex(get(to, REQUEST), ==, request);
    g_assert_cmphex(get(to, GUEST), ==, guest);
    g_assert_cmphex(get(to, ANSWER), ==, answered);
    qtest_qmp_assert_success(to->qts, "{ 'execute': 'cont' }");
    g_assert_cmphex(get(to, REQUEST), ==,
                    WORD(IDLE, GENERATION(request) + 1) | ATTENTION);

    while (STATE(get(from, REQUEST)) != IDLE) {
        g_usleep(1000);
    }

    guest_stop(from);
    guest_stop(to);
    unlink(path);
    rmdir(dir);
}

static void warm_up(Guest *g)
{
    slow_down(g);
    start(g, NOWHERE, LONG_MS);
    answer(g, ACTIVE);
    wait_status(g, "active");
}

static void test_lost_reset(void)
{
    Guest *g = guest_start(MACHINE ROOT_PORT);

    warm_up(g);
    /* Whoever waits for the event RESET drops that of the migration */
    qtest_system_reset_nowait(g->qts);
    while (get(g, GUEST)) {
        g_usleep(1000);
    }
    /* It doesn't help to be quick */
    answer(g, ACTIVE);
    wait_failed(g, "rp0");
    guest_stop(g);
}

static void test_lost_guest(void)
{
    Guest *g = guest_start(MACHINE ROOT_PORT);

    warm_up(g);
    set(g, GUEST, DRIVER | STREAMING);
    set(g, ANSWER, get(g, ANSWER));
    set(g, GUEST, DRIVER);
    wait_failed(g, "rp0");
    guest_stop(g);
}

static void test_lost_answer(void)
{
    Guest *g = guest_start(MACHINE ROOT_PORT);

    warm_up(g);
    answer(g, IDLE);
    answer(g, ACTIVE);
    wait_failed(g, "rp0");
    guest_stop(g);
}

/* The answer is worth something until the guest is stopped for good */
static void lose_late(Guest *g)
{
    wait_status(g, "pre-switchover");
    qtest_system_reset(g->qts);
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'migrate-continue',"
                             "  'arguments': { 'state': 'pre-switchover' } }");
    wait_status(g, "device");
    wait_failed(g, "rp0");
}

static void test_lost_late(void)
{
    Guest *g = guest_start(MACHINE ROOT_PORT);

    migrate_set_capability(g->qts, "pause-before-switchover", true);
    start(g, NOWHERE, LONG_MS);
    answer(g, ACTIVE);
    wait_status(g, "active");
    lose_late(g);
    guest_stop(g);
}

#ifndef _WIN32
/*
 * Nobody has to read what is sent: so slowly, it stays in the socket until the
 * guest is stopped.
 */
static void test_lost_postcopy(void)
{
    Guest *g = guest_start(MACHINE ROOT_PORT);
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    qtest_qmp_fds_assert_success(g->qts, &pair[0], 1, "{ 'execute': 'getfd',"
                                 "  'arguments': { 'fdname': 'out' } }");
    close(pair[0]);

    migrate_set_capability(g->qts, "pause-before-switchover", true);
    migrate_set_capability(g->qts, "postcopy-ram", true);
    slow_down(g);
    start(g, "fd:out", LONG_MS);
    answer(g, ACTIVE);
    wait_status(g, "active");
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'migrate-start-postcopy' }");
    lose_late(g);

    close(pair[1]);
    guest_stop(g);
}
#endif

static void test_stopped(void)
{
    Guest *g = guest_start(MACHINE ROOT_PORT);

    qtest_qmp_assert_success(g->qts, "{ 'execute': 'stop' }");

    /* It must not go on unasked */
    slow_down(g);
    start(g, NOWHERE, LONG_MS);
    wait_status(g, "active");
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'cont' }");
    wait_failed(g, "rp0");

    /* It can be moved as it is */
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'stop' }");
    speed_up(g);
    start(g, NOWHERE, LONG_MS);
    wait_status(g, "active");
    wait_status(g, "device");
    wait_status(g, "completed");
    guest_stop(g);
}

/* Nobody waits any longer for a guest that is stopped */
static void test_stopped_later(void)
{
    Guest *g = guest_start(MACHINE ROOT_PORT);

    start(g, NOWHERE, LONG_MS);
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'stop' }");
    wait_status(g, "active");
    wait_status(g, "device");
    wait_status(g, "completed");
    guest_stop(g);
}

/* Wait until the guest is asked to let the device go, and do so */
static void power_off_slot(Guest *g)
{
    uint8_t exp = qpci_find_capability(g->dev, PCI_CAP_ID_EXP, 0);
    uint16_t ctl = qpci_config_readw(g->dev, exp + PCI_EXP_SLTCTL);
    int ms;

    for (ms = 0; !(qpci_config_readw(g->dev, exp + PCI_EXP_SLTSTA) &
                   PCI_EXP_SLTSTA_ABP); ms++) {
        g_assert_cmpint(ms, <, LONG_MS / 4);
        g_usleep(1000);
    }

    ctl &= ~PCI_EXP_SLTCTL_PIC;
    qpci_config_writew(g->dev, exp + PCI_EXP_SLTCTL, ctl |
                       PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_PWR_IND_OFF);
}

/* Not by DEVICE_DELETED: whoever waits for that drops other events */
static void wait_gone(Guest *g)
{
    bool gone;

    do {
        QDict *rsp = qtest_qmp(g->qts, "{ 'execute': 'qom-list', 'arguments':"
                               "  { 'path': '/machine/peripheral/dev0' } }");

        gone = qdict_haskey(rsp, "error");
        qobject_unref(rsp);
        g_usleep(1000);
    } while (!gone);
}

#define DEVICE " -device virtio-serial-pci,id=dev0,bus=rp0"

static void assert_active(Guest *g)
{
    QDict *rsp = qtest_qmp(g->qts, "{ 'execute': 'query-migrate' }");

    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "return"), "status"), ==,
                    "active");
    qobject_unref(rsp);
}

static void test_unplug(void)
{
    Guest *g = guest_start(MACHINE NATIVE_HOTPLUG ROOT_PORT DEVICE
                           " -device pcie-root-port,id=rp1,chassis=2,addr=4 "
                           "-device virtio-serial-pci,id=dev1,bus=rp1");
    QDict *rsp;

    warm_up(g);

    /* Elsewhere as ever */
    rsp = qtest_qmp(g->qts, "{ 'execute': 'device_del',"
                    "  'arguments': { 'id': 'dev1' } }");
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "error"), "desc"), ==,
                    "device_del not allowed while migrating");
    qobject_unref(rsp);

    qtest_qmp_device_del_send(g->qts, "dev0");
    speed_up(g);

    /* It converges, but does not switch over */
    g_usleep(G_USEC_PER_SEC);
    assert_active(g);

    power_off_slot(g);
    wait_gone(g);
    wait_status(g, "device");
    wait_status(g, "completed");
    guest_stop(g);
}

/* A guest that is stopped releases nothing: the migration can't go on */
static void test_unplug_stopped(const void *opaque)
{
    Guest *g = guest_start(opaque);

    warm_up(g);
    qtest_qmp_device_del_send(g->qts, "dev0");
    speed_up(g);
    g_usleep(G_USEC_PER_SEC);
    assert_active(g);
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'stop' }");
    wait_status(g, "device");
    wait_failed_and_is(g, "dev0", "paused");
    guest_stop(g);
}

/* Neither can it if the guest ignores that it is to release a device */
static void test_unplug_ignored(void)
{
    Guest *g = guest_start(MACHINE NATIVE_HOTPLUG ROOT_PORT DEVICE);

    warm_up(g);
    qtest_qmp_device_del_send(g->qts, "dev0");
    migrate_set_parameter_int(g->qts, "page-dirtying-timeout", SHORT_MS);
    speed_up(g);
    g_usleep(2 * G_USEC_PER_SEC);
    assert_active(g);
    wait_failed(g, "dev0");
    guest_stop(g);
}

static void test_fallback(void)
{
    Guest *g = guest_start(MACHINE NATIVE_HOTPLUG ROOT_PORT DEVICE);

    migrate_set_parameter_str(g->qts, "page-dirtying-fallback", "unplug");

    /* The guest keeps the device, too */
    start(g, NOWHERE, SHORT_MS);
    wait_failed(g, "dev0");

    /* The guest lets it go, having forgotten that it was asked before */
    qtest_system_reset(g->qts);
    qtest_clock_step(g->qts, 10 * NANOSECONDS_PER_SECOND);
    start(g, NOWHERE, LONG_MS);
    set(g, GUEST, DRIVER);
    set(g, ANSWER, WORD(REFUSED, GENERATION(get(g, REQUEST))));
    power_off_slot(g);
    wait_gone(g);
    wait_status(g, "active");
    wait_status(g, "device");
    wait_status(g, "completed");
    guest_stop(g);
}

/* There is nothing behind the bridge that could be unplugged, or has to */
static void test_fallback_empty(void)
{
    Guest *g = guest_start(MACHINE ROOT_PORT);

    migrate_set_parameter_str(g->qts, "page-dirtying-fallback", "unplug");
    start(g, NOWHERE, SHORT_MS);
    wait_status(g, "active");
    wait_status(g, "device");
    wait_status(g, "completed");
    guest_stop(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("pci-page-dirtying/off", test_off);
    qtest_add_data_func("pci-page-dirtying/registers/pcie-root-port",
                        ROOT_PORT, test_registers);
    qtest_add_data_func("pci-page-dirtying/reset/pcie-root-port",
                        ROOT_PORT, test_reset);
    qtest_add_data_func("pci-page-dirtying/migrate/pcie-root-port",
                        ROOT_PORT, test_migrate);
    if (qtest_has_device("pci-bridge")) {
        qtest_add_data_func("pci-page-dirtying/registers/pci-bridge",
                            BRIDGE, test_registers);
        qtest_add_data_func("pci-page-dirtying/reset/pci-bridge",
                            BRIDGE, test_reset);
        qtest_add_data_func("pci-page-dirtying/migrate/pci-bridge",
                            BRIDGE, test_migrate);
    }
    qtest_add_func("pci-page-dirtying/qmp", test_qmp);
    qtest_add_func("pci-page-dirtying/timeout", test_timeout);
    qtest_add_func("pci-page-dirtying/refused", test_refused);
    qtest_add_func("pci-page-dirtying/two-blocks", test_two_blocks);
    qtest_add_func("pci-page-dirtying/stale-answer", test_stale_answer);
    qtest_add_func("pci-page-dirtying/cancel", test_cancel);
    qtest_add_func("pci-page-dirtying/lost/reset", test_lost_reset);
    qtest_add_func("pci-page-dirtying/lost/guest", test_lost_guest);
    qtest_add_func("pci-page-dirtying/lost/answer", test_lost_answer);
    qtest_add_func("pci-page-dirtying/lost/late", test_lost_late);
#ifndef _WIN32
    qtest_add_func("pci-page-dirtying/lost/postcopy", test_lost_postcopy);
#endif
    qtest_add_func("pci-page-dirtying/stopped/before", test_stopped);
    qtest_add_func("pci-page-dirtying/stopped/later", test_stopped_later);
    if (qtest_has_device("virtio-serial-pci")) {
        qtest_add_func("pci-page-dirtying/unplug/released", test_unplug);
        qtest_add_data_func("pci-page-dirtying/unplug/stopped/pcie-root-port",
                            MACHINE NATIVE_HOTPLUG ROOT_PORT DEVICE,
                            test_unplug_stopped);
        if (qtest_has_device("pci-bridge")) {
            qtest_add_data_func("pci-page-dirtying/unplug/stopped/pci-bridge",
                                MACHINE NATIVE_HOTPLUG BRIDGE DEVICE ",addr=1",
                                test_unplug_stopped);
        }
        qtest_add_func("pci-page-dirtying/unplug/ignored", test_unplug_ignored);
        qtest_add_func("pci-page-dirtying/fallback/unplug", test_fallback);
    }
    qtest_add_func("pci-page-dirtying/fallback/empty", test_fallback_empty);

    return g_test_run();
}
