// The console's one script. Every page works without it; it adds copying, times that stay current,
// filters that answer at once, shortcuts, and a guard before a secret is lost. Nothing here makes
// HTML out of text.

const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Says something to people who do not see it change.
const announce = (text) => {
	const region = document.getElementById("status");
	region.textContent = "";
	setTimeout(() => { region.textContent = text; }, 50); // emptied first, so that a repetition is told too
};

// Copy buttons: data-copy is the ID of what is copied.
const copying = () => {
	for (const button of all("[data-copy]")) {
		button.hidden = false;
		button.addEventListener("click", async () => {
			const source = document.getElementById(button.dataset.copy);
			const label = button.textContent;
			try {
				await navigator.clipboard.writeText(source.value ?? source.textContent);
				announce(`${button.dataset.copied ?? label.replace(/^Copy\s*/, "")} copied`);
				const first = button.firstChild;
				const before = first.textContent;
				first.textContent = "Copied ";
				setTimeout(() => { first.textContent = before; }, 2000);
			} catch {
				source.select?.();
				announce("Copying is not allowed here: press Ctrl+C");
			}
		});
	}
};

// Times are relative when the page is made; they stay so, and their tooltips are in local time.
const units = [["year", 31536000, 60480000], ["month", 2592000, 7776000], ["day", 86400, 129600], ["hour", 3600, 5400], ["minute", 60, 90]];
const relative = (then) => {
	const seconds = (then - Date.now()) / 1000;
	const distance = Math.abs(seconds);
	if (distance < 10) return "just now";
	const [name, size] = units.find(([, , from]) => distance >= from) ?? ["second", 1];
	const n = Math.round(distance / size);
	const words = `${n} ${name}${n === 1 ? "" : "s"}`;
	return seconds < 0 ? `${words} ago` : `in ${words}`;
};
const times = () => {
	for (const element of all("time[data-relative]")) {
		const then = new Date(element.dateTime);
		element.textContent = relative(then);
		element.title = then.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
	}
};

// A list that is filtered while typing: data-filter is the selector of what is shown or hidden.
const filters = () => {
	for (const input of all("[data-filter]")) {
		input.addEventListener("input", () => {
			const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
			let shown = 0;
			for (const item of all(input.dataset.filter)) {
				const text = (item.dataset.text ?? item.textContent).toLowerCase();
				item.hidden = !words.every((word) => text.includes(word));
				shown += item.hidden ? 0 : 1;
			}
			announce(`${shown} shown`);
		});
	}
};

// Sections with data-tab become tabs.
const tabs = () => {
	for (const group of all("[data-tabs]")) {
		const sections = all("[data-tab]", group);
		const list = document.createElement("div");
		list.className = "tablist";
		list.setAttribute("role", "tablist");
		list.setAttribute("aria-label", group.dataset.tabs);
		const choose = (chosen, focus) => sections.forEach((section, i) => {
			section.hidden = i !== chosen;
			const button = list.children[i];
			button.setAttribute("aria-selected", String(i === chosen));
			button.tabIndex = i === chosen ? 0 : -1;
			if (focus && i === chosen) button.focus();
		});
		sections.forEach((section, i) => {
			const button = document.createElement("button");
			button.type = "button";
			button.textContent = section.dataset.tab;
			button.setAttribute("role", "tab");
			section.id ||= `tab-${i}-${section.dataset.tab.replace(/\W+/g, "-").toLowerCase()}`;
			button.id = `${section.id}-label`;
			button.setAttribute("aria-controls", section.id);
			section.setAttribute("role", "tabpanel");
			section.setAttribute("aria-labelledby", button.id);
			for (const heading of all("h3", section)) heading.hidden = true;
			button.addEventListener("click", () => choose(i));
			button.addEventListener("keydown", (event) => {
				const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
				if (step) choose((i + step + sections.length) % sections.length, true);
			});
			list.append(button);
		});
		group.prepend(list);
		choose(0);
	}
};

// A form is sent once: its buttons rest until the next page is there, or this one is shown again.
const once = () => {
	const rest = (resting) => all("form button:not([type=button])").forEach((button) => {
		if (resting || button.dataset.resting) button.disabled = resting;
		resting ? (button.dataset.resting = "yes") : delete button.dataset.resting;
	});
	for (const form of all("form[method=post]:not([target])")) {
		// After this event, so that the button that was pressed is sent too.
		form.addEventListener("submit", () => setTimeout(() => rest(true)));
	}
	addEventListener("pageshow", () => rest(false));
};

// Checkboxes: data-all is the selector of those that follow this one.
const selecting = () => {
	for (const box of all("[data-all]")) {
		box.hidden = false;
		box.addEventListener("change", () => {
			for (const other of all(box.dataset.all)) {
				other.checked = box.checked;
				other.dispatchEvent(new Event("change", { bubbles: true }));
			}
		});
	}
};

// Keys: / searches, n makes something new, g and a letter goes somewhere, ? lists them.
const shortcuts = () => {
	if (document.documentElement.dataset.shortcuts === "off") return;
	const { base, workspace } = document.body.dataset;
	const places = workspace ? { k: "/keys", a: "/audit", h: "" } : {};
	let going = false;
	addEventListener("keydown", (event) => {
		if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, [contenteditable], dialog")) return;
		if (going && event.key in places) location.assign(workspace + places[event.key]);
		else if (going && event.key === "w") location.assign(base);
		else if (event.key === "/") document.querySelector("[data-search]")?.focus();
		else if (event.key === "n") document.querySelector("[data-new]")?.click();
		else if (event.key === "?") document.getElementById("shortcuts")?.showModal();
		else {
			going = event.key === "g";
			return;
		}
		going = false;
		event.preventDefault();
	});
};

// Menus close when something else is clicked, or with Escape.
const menus = () => {
	const close = (except) => all("details.menu[open]").forEach((menu) => { if (menu !== except) menu.open = false; });
	addEventListener("click", (event) => close(event.target.closest("details.menu")));
	addEventListener("keydown", (event) => {
		if (event.key !== "Escape") return;
		const open = document.querySelector("details.menu[open]");
		if (open) {
			open.open = false;
			open.querySelector("summary").focus();
		}
	});
};

copying();
times();
setInterval(times, 30000);
filters();
tabs();
once();
selecting();
shortcuts();
menus();
document.getElementById("problem")?.focus();
for (const element of all("[data-announce]")) announce(element.textContent);
