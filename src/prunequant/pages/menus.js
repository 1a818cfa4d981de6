(function(){
const figure=document.currentScript.parentElement, at=s=>figure.querySelector(s);
const data=JSON.parse(at('script[type="application/json"]').textContent);
const menus=[...figure.querySelectorAll('select')], list=at('.pq-widget-bars'), caption=at('figcaption');
const most=Math.max(...data.shares)||1;
const percent=v=>data.lengths?'':v===0?'none':v<.001?'< 0.1 %':(100*v).toFixed(1)+' %';
const rows=data.bars.map(label=>{const li=document.createElement('li');
 const head=document.createElement('div'),bar=document.createElement('div'),note=document.createElement('div');
 head.className='pq-bar-head';bar.className='pq-bar';note.className='pq-bar-note';
 bar.style.background='var(--pq-'+data.role+','+data.colour+')';
 const name=document.createElement('span'),value=document.createElement('strong');name.textContent=label;
 head.append(name,value);li.append(head,bar,note);list.append(li);return {bar,value,note};});
let timer;
function draw(){let k=0;menus.forEach((m,i)=>{k=k*data.sizes[i]+Number(m.value);});
 rows.forEach((row,j)=>{const i=k*rows.length+j,v=data.shares[i];
  row.value.textContent=percent(v);row.bar.style.width=(100*v/most)+'%';row.bar.style.minWidth=v?'2px':'0';
  row.note.textContent=data.texts[data.notes[i]];});
 clearTimeout(timer);timer=setTimeout(()=>{caption.textContent=data.readings[k];},250);}
menus.forEach(m=>m.addEventListener('change',draw));draw();
})();
