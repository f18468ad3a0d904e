"use strict";
// Each picture becomes a canvas that can be zoomed down to single pages, as soon as it
// comes into view.
(() => {
	const ids = ["untouched", "once", "resent", "arrived", "missed"];
	const arrived = 3, missed = 4;

	// Varints as of Go's encoding/binary, in base64; all are below 2^53.
	const reader = text => {
		const b = atob(text);
		let at = 0;
		const next = () => {
			let v = 0;
			for (let unit = 1; ; unit *= 128) {
				const c = b.charCodeAt(at++);
				v += (c & 127) * unit;
				if (c < 128) return v;
			}
		};
		const signed = () => {
			const v = next();
			return v % 2 ? -(v + 1) / 2 : v / 2;
		};
		return {more: () => at < b.length, next, signed};
	};
	const decodeStates = data => {
		const state = new Uint32Array(data.pages);
		let at = 0;
		for (const r = reader(data.runs); r.more();) {
			const s = r.next(), n = r.next();
			state.fill(s, at, at += n);
		}
		return state;
	};
	// Stretches of written pages, rising.
	const decodeWrites = data => {
		const all = [];
		let end = 0, source = 0, ms = 0, pass = 0;
		for (const r = reader(data.writes); r.more();) {
			const first = end + r.next(), n = r.next(), who = data.writers[r.next()];
			source += r.signed(), ms += r.signed(), pass += r.signed();
			end = first + n;
			all.push({first, end, who, source, ms, pass, step: r.signed()});
		}
		return all;
	};
	const find = (stretches, page) => {
		let low = 0, high = stretches.length;
		while (low < high) {
			const middle = low + high >> 1;
			if (stretches[middle].end <= page) low = middle + 1;
			else high = middle;
		}
		const w = stretches[low];
		return w && w.first <= page ? w : null;
	};

	class Memory {
		constructor(data) {
			this.data = data;
			this.pages = data.pages;
			this.state = decodeStates(data);
			this.columns = 1;
			while (this.columns * this.columns < this.pages) this.columns *= 2;
			this.rows = Math.ceil(this.pages / this.columns);
			this.levels = [];
		}
		classOf(page) { return this.data.states[this.state[page]][0]; }
		count() {
			const byState = new Array(this.data.states.length).fill(0), n = ids.map(() => 0);
			for (const s of this.state) byState[s]++;
			byState.forEach((pages, s) => n[this.data.states[s][0]] += pages);
			return n;
		}
		// Classes of squares of 2^k by 2^k pages: that of the worst page.
		level(k) {
			if (this.levels[k]) return this.levels[k];
			const columns = Math.ceil(this.columns / 2 ** k), rows = Math.ceil(this.rows / 2 ** k);
			const cells = new Uint8Array(columns * rows);
			if (!k) {
				const classes = Uint8Array.from(this.data.states, s => s[0]);
				for (let i = 0; i < this.pages; i++) cells[i] = classes[this.state[i]];
			} else {
				const below = this.level(k - 1);
				for (let y = 0, i = 0; y < below.rows; y++)
					for (let x = 0; x < below.columns; x++, i++) {
						const to = (y >> 1) * columns + (x >> 1);
						if (below.cells[i] > cells[to]) cells[to] = below.cells[i];
					}
			}
			return this.levels[k] = {cells, columns, rows};
		}
		story(page) {
			const d = this.data, [c, mask] = d.states[this.state[page]];
			const address = page < d.low ? page * 4096 : 2 ** 32 + (page - d.low) * 4096;
			const passes = [];
			for (let i = 0; i < 32; i++) if (mask / 2 ** i & 1) passes.push(i == 31 ? "32 or later" : String(i + 1));
			this.stretches ??= decodeWrites(d);
			const w = find(this.stretches, page);
			let s = "Page 0x" + address.toString(16) + ": ";
			if (w) {
				const source = w.source + (page - w.first) * w.step;
				s += "written by " + w.who + (source >= 0 ? " " + source : "") + " in pass " + w.pass;
				if (!w.who.startsWith("the CPU")) s += ", " + w.ms + " ms after the migration began";
				s += "; ";
			}
			if (!passes.length) s += "never sent";
			else s += (c ? "sent in pass" : "sent as zeros in pass") + (passes.length > 1 ? "es " : " ") + passes.join(", ");
			if (c == arrived) s += ", so it arrived";
			if (c == missed) s += ", and not after it was written: missed";
			return s + ".";
		}
	}

	const views = [];
	const open = figure => {
		const box = figure.querySelector(".memory"), said = figure.querySelector(".story"), scale = figure.querySelector(".scale");
		const memory = new Memory(JSON.parse(figure.querySelector(".pages").textContent));
		const {columns, rows, pages} = memory;
		const canvas = document.createElement("canvas");
		canvas.tabIndex = 0;
		canvas.setAttribute("role", "application");
		canvas.setAttribute("aria-label", "The guest’s memory. Arrow keys go from page to page, plus and minus zoom, N goes to the next page that was missed, or else written, Home shows all.");
		const last = Math.max(1, columns / 8); // zoom at which there are 8 pages in a row
		let zoom = 1, left = 0, top = 0, chosen = -1, images = [];
		const across = () => columns / zoom, down = () => rows / zoom;

		// image has a pixel for each cell of a level.
		const image = k => {
			if (images[k]) return images[k];
			const css = getComputedStyle(document.documentElement);
			const words = Uint32Array.from(ids, id => {
				const n = parseInt(css.getPropertyValue("--" + id).trim().slice(1), 16);
				return (255 << 24 | (n & 255) << 16 | n & 0xff00 | n >> 16) >>> 0;
			});
			const level = memory.level(k), made = document.createElement("canvas");
			made.width = level.columns, made.height = level.rows;
			const pixels = new ImageData(level.columns, level.rows), out = new Uint32Array(pixels.data.buffer);
			for (let i = 0; i < out.length; i++) out[i] = words[level.cells[i]];
			made.getContext("2d").putImageData(pixels, 0, 0);
			return images[k] = made;
		};
		const show = () => {
			const width = Math.max(1, Math.round(box.clientWidth * devicePixelRatio)), height = Math.max(1, Math.round(box.clientHeight * devicePixelRatio));
			if (canvas.width != width || canvas.height != height) canvas.width = width, canvas.height = height;
			left = Math.min(Math.max(0, left), columns - across());
			top = Math.min(Math.max(0, top), rows - down());
			const g = canvas.getContext("2d"), cell = width / across();
			// No cell is smaller than a pixel, so that none is passed over.
			let k = 0;
			while (cell * 2 ** k < 1 && 2 ** k < columns) k++;
			const unit = 2 ** k;
			g.imageSmoothingEnabled = false;
			g.clearRect(0, 0, width, height);
			g.drawImage(image(k), left / unit, top / unit, across() / unit, down() / unit, 0, 0, width, height);
			if (chosen >= 0) {
				const line = 2 * devicePixelRatio, side = Math.max(cell, 4 * line);
				const x = (chosen % columns - left + .5) * cell - side / 2, y = (Math.floor(chosen / columns) - top + .5) * cell - side / 2;
				const css = getComputedStyle(document.body);
				// Two lines, one of which is seen on any colour.
				g.lineWidth = line;
				g.strokeStyle = css.backgroundColor, g.strokeRect(x, y, side, side);
				g.strokeStyle = css.color, g.strokeRect(x - line, y - line, side + 2 * line, side + 2 * line);
			}
			scale.textContent = k ? "each cell is " + unit * unit + " pages of 4 KiB, shown as the worst of them" : "each cell is a page of 4 KiB";
			canvas.style.touchAction = zoom > 1 ? "none" : "pan-y"; // else a finger scrolls the page
		};
		// zoomTo keeps what is at x and y, parts of the box, where it is.
		const zoomTo = (to, x, y) => {
			const wide = across(), high = down();
			zoom = Math.min(Math.max(1, to), last);
			left += (wide - across()) * x, top += (high - down()) * y;
			show();
		};
		const zoomBy = factor => {
			let x = .5, y = .5;
			if (chosen >= 0) {
				const cx = (chosen % columns + .5 - left) / across(), cy = (Math.floor(chosen / columns) + .5 - top) / down();
				if (cx >= 0 && cx <= 1 && cy >= 0 && cy <= 1) x = cx, y = cy;
			}
			zoomTo(zoom * factor, x, y);
		};
		const choose = page => {
			if (page < 0 || page >= pages) return;
			chosen = page;
			said.textContent = memory.story(page);
			const x = page % columns, y = Math.floor(page / columns);
			if (x < left || x + 1 > left + across()) left = x + .5 - across() / 2;
			if (y < top || y + 1 > top + down()) top = y + .5 - down() / 2;
			show();
		};
		const counts = memory.count(), sought = counts[missed] ? missed : arrived;
		const next = () => {
			for (let i = 1; i <= pages; i++) {
				const page = (chosen + i) % pages;
				if (memory.classOf(page) == sought) {
					zoom = Math.max(zoom, Math.min(last, columns / 32));
					return choose(page);
				}
			}
		};
		const home = () => {
			zoom = 1, left = top = 0;
			show();
		};
		const bar = document.createElement("div");
		bar.className = "zoom";
		const button = (text, label, act) => {
			const b = document.createElement("button");
			b.type = "button", b.textContent = text, b.onclick = act;
			if (label) b.setAttribute("aria-label", label);
			bar.append(b);
		};
		button("+", "zoom in", () => zoomBy(2));
		button("−", "zoom out", () => zoomBy(.5));
		button("all", "all of the memory", home);
		if (counts[sought]) button(sought == missed ? "next missed page" : "next written page", "", next);

		const at = e => {
			const r = canvas.getBoundingClientRect();
			return [(e.clientX - r.left) / r.width, (e.clientY - r.top) / r.height];
		};
		const within = (n, end) => Math.min(Math.max(0, Math.floor(n)), end - 1);
		const fingers = new Map();
		let drag = null;
		const pinch = () => {
			const [a, b] = [...fingers.values()];
			return {apart: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY), clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2};
		};
		canvas.onpointerdown = e => {
			fingers.set(e.pointerId, e);
			drag = {x: e.clientX, y: e.clientY, left, top, zoom, moved: fingers.size > 1, apart: fingers.size == 2 ? pinch().apart : 0};
			canvas.setPointerCapture(e.pointerId);
		};
		canvas.onpointermove = e => {
			if (!drag || !fingers.has(e.pointerId)) return;
			fingers.set(e.pointerId, e);
			if (fingers.size == 2 && drag.apart) {
				const p = pinch();
				return zoomTo(drag.zoom * p.apart / drag.apart, ...at(p));
			}
			if (Math.hypot(e.clientX - drag.x, e.clientY - drag.y) > 4) drag.moved = true;
			if (drag.moved && zoom > 1 && fingers.size == 1) {
				left = drag.left - (e.clientX - drag.x) / canvas.clientWidth * across();
				top = drag.top - (e.clientY - drag.y) / canvas.clientHeight * down();
				show();
			}
		};
		canvas.onpointerup = e => {
			fingers.delete(e.pointerId);
			if (drag && !drag.moved) {
				const [x, y] = at(e);
				choose(within(top + y * down(), rows) * columns + within(left + x * across(), columns));
			}
			drag = null;
		};
		canvas.onpointercancel = e => {
			fingers.delete(e.pointerId);
			drag = null;
		};
		canvas.addEventListener("wheel", e => {
			// Otherwise the page scrolls. Two fingers on a touchpad come as Ctrl.
			if (!e.ctrlKey && document.activeElement != canvas) return;
			e.preventDefault();
			zoomTo(zoom * 1.5 ** Math.max(-1, Math.min(1, -e.deltaY / 50)), ...at(e));
		}, {passive: false});
		canvas.onkeydown = e => {
			const act = {
				"+": () => zoomBy(2), "=": () => zoomBy(2), "-": () => zoomBy(.5), Home: home, n: next, N: next,
				ArrowLeft: () => choose(Math.max(0, chosen - 1)), ArrowRight: () => choose(chosen + 1),
				ArrowUp: () => choose(chosen - columns), ArrowDown: () => choose(chosen < 0 ? 0 : chosen + columns),
			}[e.key];
			if (!act || e.ctrlKey || e.metaKey || e.altKey) return;
			e.preventDefault();
			act();
		};
		box.append(canvas);
		said.before(bar);
		said.textContent = "Click on a page for its story. The wheel zooms once the picture was clicked on, or with Ctrl. Keys: arrows, +, −, N, Home.";
		show();
		views.push({show, repaint: () => { images = [], show(); }});
		// For tests.
		figure.memory = memory;
		figure.view = () => ({zoom, left, top, chosen});
		performance.mark("drawn");
	};
	const seen = new IntersectionObserver(entries => {
		for (const e of entries)
			if (e.isIntersecting) seen.unobserve(e.target), open(e.target);
	}, {rootMargin: "200px"});
	for (const f of document.querySelectorAll("figure.whole")) seen.observe(f);
	addEventListener("resize", () => views.forEach(v => v.show()));
	matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => views.forEach(v => v.repaint()));
})();
